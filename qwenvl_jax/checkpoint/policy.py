"""Which checkpoints stay on disk: the newest, some for good, and the best."""

import dataclasses
from collections.abc import Collection, Mapping


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """How often a step is saved and which steps stay. Steps are optimiser steps."""

    every: int = 1000
    keep: int = 3  # the newest steps
    verify: bool = True  # compare a checkpoint's files with its manifest before they are read
    keep_every: int = 0  # multiples of it stay for good; 0: none do
    keep_best: bool = True  # the step with the lowest held-out loss stays, too

    def __post_init__(self):
        for name in ("every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"config.checkpoint.{name} must be at least 1")
        if self.keep_every < 0:
            raise ValueError("config.checkpoint.keep_every must be at least 0 (0: none stay)")
        if self.keep_every % self.every:
            below = self.keep_every // self.every * self.every
            near = [str(n) for n in (below, below + self.every) if n]
            raise ValueError(
                f"config.checkpoint.keep_every={self.keep_every} must be a multiple of"
                f" config.checkpoint.every={self.every}: {' or '.join(near)}"
            )

    def most(self, steps: int) -> int:
        """The largest number of steps that stay at once in a run of `steps` steps."""
        for_good = steps // self.keep_every if self.keep_every else 0
        return min(self.keep + self.keep_best + for_good, -(-steps // self.every))


def best(steps: Collection[int], losses: Mapping[int, float]) -> int | None:
    """The step with the lowest held-out loss, the newest of equals; None where none has a loss."""
    scored = [step for step in steps if step in losses]
    return min(scored, key=lambda step: (losses[step], -step), default=None)


def stay(
    steps: Collection[int], config: CheckpointConfig, losses: Mapping[int, float]
) -> frozenset[int]:
    """The steps that must not be deleted.

    Args:
      steps: the intact steps on disk.
      losses: held-out loss by step, as far as it is known.
    """
    kept = set(sorted(steps)[-config.keep :])
    if config.keep_every:
        kept |= {step for step in steps if step % config.keep_every == 0}
    winner = best(steps, losses) if config.keep_best else None
    return frozenset(kept if winner is None else kept | {winner})
