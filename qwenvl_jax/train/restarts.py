"""What `config.resume` asks: a kept step to go back to, batches to leave out; each done once.

Every checkpoint after a restart notes it. The batch of step n is then batch n + the batches that
restarts at or before n left out, so that the run can be made again from its config and these notes.
"""

from pathlib import Path
from typing import Any

from absl import logging

from qwenvl_jax.checkpoint import intact
from qwenvl_jax.train.config import ResumeConfig
from qwenvl_jax.train.events import Events


class Restarts:
    """The restarts that a run's weights have behind them."""

    def __init__(self, asked: ResumeConfig):
        self._asked = asked
        self._mark = {"asked_step": asked.step, "skip_batches": asked.skip_batches}
        self._done: list[dict[str, Any]] = []

    def refuse_without_checkpoint(self, workdir: str | Path) -> None:
        """Raises ValueError: there is nothing to go back to."""
        if self._asked:
            raise ValueError(
                f"config.resume.step={self._asked.step},"
                f" config.resume.skip_batches={self._asked.skip_batches}:"
                f" {workdir} holds no checkpoint to resume"
            )

    def step_to_go_back_to(self, workdir: str | Path) -> int | None:
        """The step to restore, None for the newest: a restart that the newest has behind it is not
        made again.
        """
        if not self._asked:
            return None
        root = Path(workdir).absolute()
        newest = intact.newest(root, verify=False)
        if self._is_done(intact.read_meta(root, newest).get("extra", {})):
            return None
        return self._asked.step if self._asked.step >= 0 else None

    def _is_done(self, extra: dict[str, Any]) -> bool:
        done = extra.get("restarts", [])
        return bool(done) and self._mark.items() <= done[-1].items()

    def read(self, extra: dict[str, Any]) -> None:
        """Take the notes of the checkpoint that was restored."""
        self._done = list(extra.get("restarts", []))

    def skip(self, stream: Any, step: int, events: Events) -> None:
        """Leave out the batches that are asked, unless the restored checkpoint has done so.

        Args:
          stream: stands before the batch of step `step`.
        """
        if not self._asked:
            return
        if self._is_done({"restarts": self._done}):
            logging.info("config.resume was done at step %d already", self._done[-1]["step"])
            return
        for number in range(self._asked.skip_batches):
            next(stream)
            if number % 100 == 99:
                logging.info("left out %d of %d batches", number + 1, self._asked.skip_batches)
        self._done.append({"step": step, **self._mark})
        events.write("restarted", step, **self._mark)
        logging.info(
            "restarted at step %d; %d batches were left out", step, self._asked.skip_batches
        )

    def notes(self) -> list[dict[str, Any]]:
        """What the next checkpoint is to say."""
        return self._done


def batch_index(step: int, restarts: list[dict[str, Any]]) -> int:
    """The stream's batch that step `step` trains on."""
    return step + sum(r["skip_batches"] for r in restarts if r["step"] <= step)
