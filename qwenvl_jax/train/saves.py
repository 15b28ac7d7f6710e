"""When a checkpoint is written: every so many steps and at the end, but never after a bad step."""

from collections.abc import Callable

import numpy as np
from absl import logging

from qwenvl_jax import trees
from qwenvl_jax.checkpoint.manager import Checkpoints
from qwenvl_jax.train import guard
from qwenvl_jax.train.config import TrainConfig
from qwenvl_jax.train.report import Report
from qwenvl_jax.train.restarts import Restarts
from qwenvl_jax.train.state import TrainState


class Saves:
    """The loop's `save`, once the frozen parameters are given.

    A save that falls due after skipped steps waits for a step that is applied: weights that give no
    finite loss would otherwise push good checkpoints out.
    """

    def __init__(
        self,
        config: TrainConfig,
        checkpoints: Checkpoints,
        report: Report,
        restarts: Restarts,
        *,
        first: int,
        to_store: Callable[[trees.Tree], trees.Tree],
    ):
        """`first` is the step that the run resumed at, which is on disk already."""
        self._config, self._checkpoints, self._report = config, checkpoints, report
        self._restarts, self._to_store = restarts, to_store
        self._saved, self._waiting = first, False

    @property
    def newest(self) -> int:
        """The step that was saved last, or resumed at; 0 where there is none."""
        return self._saved

    def __call__(
        self, frozen: trees.Tree, step: int, state: TrainState, data: np.ndarray, *, last: bool
    ) -> None:
        """Save after `step` steps if it is time.

        Raises:
          DiskFull: this save or the one before found no space.
          BadSteps: the run is at its end, and its last steps were not finite.
        """
        self._checkpoints.check()
        due = last or self._waiting or (step and step % self._config.checkpoint.every == 0)
        if not due or step == self._saved:
            return
        self._report.flush()
        skipped = self._report.skipped
        if skipped.not_finite and step == self._config.optim.steps:
            raise skipped.error()
        if skipped and (skipped.not_finite or not last):
            if not self._waiting:
                logging.warning("step %d is not saved: the steps before it were skipped", step)
            self._waiting = True
            return
        self._waiting, self._saved = False, step
        self._checkpoints.save(
            step,
            params=state.params,
            opt_state=state.opt_state,
            frozen=self._to_store(frozen),
            data=data,
            extra={"guard": guard.to_plain(state.guard), "restarts": self._restarts.notes()},
        )
