"""The loop: save, evaluate, next batch, step, log; always in this order.

Saving comes first, so that an evaluation that fails does not cost the step that was due. A step's
metrics go to the log while they are still on the devices. The log fetches them after the next step
was dispatched, so that the devices never wait for the log.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from qwenvl_jax import trees
from qwenvl_jax.batch import Batch
from qwenvl_jax.train.state import TrainState


@runtime_checkable
class Data(Protocol):
    """Where batches come from, as far as the loop knows."""

    def __next__(self) -> Batch: ...

    def state(self) -> np.ndarray: ...


@runtime_checkable
class Save(Protocol):
    """Called before a step, with the number of steps done; `last` where no step will follow."""

    def __call__(self, step: int, state: TrainState, data: np.ndarray, *, last: bool) -> None: ...


def train(
    state: TrainState,
    frozen: trees.Tree,
    data: Data,
    *,
    first: int,
    steps: int,
    train_step: Callable[[TrainState, trees.Tree, Batch], tuple[TrainState, dict[str, Any]]],
    save: Save,
    evaluate: Callable[[int, TrainState], bool],
    log: Callable[[int, dict[str, Any]], None],
    stop: Callable[[], bool],
    timer: Callable[[str], Any],
) -> TrainState:
    """Run steps `first` .. `steps - 1`; save and evaluate once more at the end.

    Args:
      train_step: compiled; donates the state.
      save, evaluate: called with the number of steps done; they decide themselves whether it is
      time. An evaluation that `stop` cut short gives False.
      log: called with a step's index and its metrics, still on the devices; may fetch those of the
      step before.
      stop: asked before each step; True ends the loop once the state is saved.
      timer: a context manager over the named part of the loop (`save`, `eval`, `data`, `step`).
    """
    for step in range(first, steps + 1):
        stopped = stop()
        with timer("save"):
            save(step, state, data.state(), last=stopped or step == steps)
        if stopped:
            break
        with timer("eval"):
            whole = evaluate(step, state)
        if not whole:
            with timer("save"):
                save(step, state, data.state(), last=True)
        if not whole or step == steps:
            break
        with timer("data"):
            batch = next(data)
        with timer("step"):  # where the loop waits for the step before, and so for the devices
            state, metrics = train_step(state, frozen, batch)
            log(step, metrics)
    return state
