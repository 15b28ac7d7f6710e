"""Training losses of the runs against what they cost: samples, FLOPs, seconds.

Arms may take steps of different size, so curves are never compared by step. Each run's smoothed
loss is read off at the same amounts of samples, of ideal FLOPs or of time, up to the least that any
run reached.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from launch.sweeps.plan import Run
from qwenvl_jax.train.metrics import read_metrics
from qwenvl_jax.train.plots import smooth

Amount = Literal["samples", "flops", "seconds"]
AMOUNTS: tuple[Amount, ...] = get_args(Amount)
POINTS = 200


class Curve(NamedTuple):
    """One run."""

    arm: str
    seed: int
    loss: Float[np.ndarray, " n"]  # smoothed, nats a labelled token, after each step
    amounts: dict[Amount, Float[np.ndarray, " n"]]  # spent until after each step


class Band(NamedTuple):
    """One arm at equal amounts: a value a seed at each of them."""

    arm: str
    x: Float[np.ndarray, " p"]
    losses: Float[np.ndarray, "seeds p"]


def read_curve(run: Run) -> Curve:
    """Of a run's `metrics.jsonl`.

    Raises:
      ValueError: it logged no step.
    """
    lines = [line for line in read_metrics(run.folder / "metrics.jsonl") if "samples" in line]
    if not lines:
        raise ValueError(f"{run.folder / 'metrics.jsonl'} has no training step")
    amounts = {name: np.cumsum([line[name] for line in lines]) for name in AMOUNTS}
    losses = np.array([line["loss"] for line in lines])
    return Curve(run.arm, run.seed, smooth(losses), amounts)


def bands(curves: Sequence[Curve], amount: Amount) -> list[Band]:
    """Every arm's curves at equal amounts, linear between steps."""
    first = max(curve.amounts[amount][0] for curve in curves)
    last = min(curve.amounts[amount][-1] for curve in curves)
    x = np.linspace(first, last, POINTS)
    return [
        Band(
            arm,
            x,
            np.array([np.interp(x, c.amounts[amount], c.loss) for c in curves if c.arm == arm]),
        )
        for arm in dict.fromkeys(curve.arm for curve in curves)
    ]


def at_equal(curves: Sequence[Curve], amount: Amount) -> dict[str, dict[int, float]]:
    """{arm: {seed: loss}} at the largest amount that every run reached."""
    last = min(curve.amounts[amount][-1] for curve in curves)
    found: dict[str, dict[int, float]] = {}
    for curve in curves:
        value = float(np.interp(last, curve.amounts[amount], curve.loss))
        found.setdefault(curve.arm, {})[curve.seed] = value
    return found
