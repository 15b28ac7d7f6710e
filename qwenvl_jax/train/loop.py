"""The loop: evaluate, save, next batch, step, log; always in this order.

A step's metrics go to the log while they are still on the devices; it fetches them after the next
step was dispatched, so that the devices never wait for the log.
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
    """Called before a step, with the number of steps done."""

    def __call__(self, step: int, state: TrainState, data: np.ndarray) -> None: ...


def train(
    state: TrainState,
    frozen: trees.Tree,
    data: Data,
    *,
    first: int,
    steps: int,
    train_step: Callable[[TrainState, trees.Tree, Batch], tuple[TrainState, dict[str, Any]]],
    evaluate: Callable[[int, TrainState], None],
    save: Save,
    log: Callable[[int, dict[str, Any]], None],
    timer: Callable[[str], Any],
) -> TrainState:
    """Run steps `first` .. `steps - 1`; evaluate and save once more at the end.

    Args:
      train_step: compiled; donates the state.
      evaluate, save: called with the number of steps done; they decide themselves whether it is
      time.
      log: called with a step's index and its metrics, still on the devices; may fetch those of the
      step before.
      timer: a context manager over the named part of the loop (`eval`, `save`, `data`, `step`).
    """
    for step in range(first, steps):
        with timer("eval"):
            evaluate(step, state)
        with timer("save"):
            save(step, state, data.state())
        with timer("data"):
            batch = next(data)
        with timer("step"):  # where the loop waits for the step before, and so for the devices
            state, metrics = train_step(state, frozen, batch)
            log(step, metrics)
    with timer("eval"):
        evaluate(steps, state)
    with timer("save"):
        save(steps, state, data.state())
    return state
