"""Which steps are applied: a step that is not finite never is, a spike only where the page allows.

The verdict is taken inside the compiled step from the global loss and gradient norm, so every
process of a job takes the same one. A refused step leaves parameters and moments as they were; the
step number, the learning rate's schedule and the data go on.

A spike is a loss or norm more than `skip_spikes` standard deviations above the mean of the last
`WINDOW` applied steps. Refused values never enter the window: one of them would widen it for as
long as it stayed there. A lasting jump therefore ends the run by `max_bad_steps`, instead of being
hidden. Mean and deviation take two passes: in one, float32 would lose the small difference of two
large sums.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from qwenvl_jax.trees import Array

WINDOW = 128  # steps
LEAST = WINDOW // 2  # applied steps before a spike can be told from the start's own swings
REASONS = ("loss_not_finite", "norm_not_finite", "loss_spike", "norm_spike")
NOT_FINITE = REASONS[:2]
APPLIED = -1  # the verdict on a step that has none of the reasons


class Guard(NamedTuple):
    """What verdicts depend on. W is the window; the newest value stands at (applied - 1) mod W."""

    losses_W: Float[Array, " W"]
    norms_W: Float[Array, " W"]
    applied: Int[Array, ""]  # steps, ever
    skipped_R: Int[Array, " R"]  # steps ever, by reason


def fresh() -> Guard:
    """The guard of a run that has made no step."""
    zeros = jnp.zeros(WINDOW, jnp.float32)
    return Guard(zeros, zeros, jnp.zeros((), jnp.int32), jnp.zeros(len(REASONS), jnp.int32))


def judge(
    guard: Guard, loss: Float[Array, ""], norm: Float[Array, ""], *, deviations: float
) -> Int[Array, ""]:
    """The first of REASONS that a step has, as its index, or APPLIED.

    Args:
      norm: of the gradients, before clipping.
      deviations: `config.optim.skip_spikes`; 0: spikes are applied.
    """
    found = [~jnp.isfinite(loss), ~jnp.isfinite(norm)]
    if deviations:
        ready = guard.applied >= LEAST
        known_W = jnp.arange(WINDOW) < guard.applied
        for value, window_W in ((loss, guard.losses_W), (norm, guard.norms_W)):
            found.append(ready & (value > _limit(window_W, known_W, deviations)))
    found_F = jnp.stack(found)
    return jnp.where(jnp.any(found_F), jnp.argmax(found_F), APPLIED).astype(jnp.int32)


def _limit(
    window_W: Float[Array, " W"], known_W: Bool[Array, " W"], deviations: float
) -> Float[Array, ""]:
    count = jnp.maximum(jnp.sum(known_W), 1)
    mean = jnp.sum(jnp.where(known_W, window_W, 0.0)) / count
    variance = jnp.sum(jnp.where(known_W, (window_W - mean) ** 2, 0.0)) / count
    return mean + deviations * jnp.sqrt(variance)


def after(
    guard: Guard, verdict: Int[Array, ""], loss: Float[Array, ""], norm: Float[Array, ""]
) -> Guard:
    """The guard once a step was judged."""
    applied = verdict == APPLIED
    here_W = applied & (jnp.arange(WINDOW) == guard.applied % WINDOW)
    return Guard(
        jnp.where(here_W, loss, guard.losses_W),
        jnp.where(here_W, norm, guard.norms_W),
        guard.applied + applied,
        guard.skipped_R + (jnp.arange(len(REASONS)) == verdict),
    )


def to_plain(guard: Guard) -> dict[str, Any]:
    """The guard as JSON values; a float32 survives the way through them unchanged."""
    return {name: np.asarray(jax.device_get(x)).tolist() for name, x in guard._asdict().items()}


def from_plain(values: Mapping[str, Any]) -> Guard:
    """The guard that `to_plain` wrote; a fresh one where an older checkpoint holds none."""
    start = fresh()
    if not values:
        return start
    return Guard(*(np.asarray(values[n], x.dtype) for n, x in start._asdict().items()))
