"""The next token from scores: the best one, or a draw from the nucleus."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32

from qwenvl_jax.trees import Array


class Nucleus(NamedTuple):
    """How draws are made; plain numbers, or arrays where a program takes them as arguments."""

    temperature: float | Array  # above 0
    top_p: float | Array  # in (0, 1]
    seed: int | Array


def best(logits_BV: Float[Array, "B V"]) -> Int32[Array, "B"]:
    """Greedy: the token of the highest score."""
    return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)


def draw(
    logits_BV: Float[Array, "B V"], nucleus: Nucleus, step: int | Int32[Array, ""]
) -> Int32[Array, "B"]:
    """A draw among the smallest set of tokens that holds `top_p` of the probability.

    Args:
      step: draws at different steps are independent.
    """
    key = jax.random.fold_in(jax.random.key(nucleus.seed), step)
    scaled_BV = logits_BV / nucleus.temperature
    order_BV = jnp.argsort(-scaled_BV, axis=-1)
    sorted_BV = jnp.take_along_axis(scaled_BV, order_BV, axis=-1)
    probabilities_BV = jax.nn.softmax(sorted_BV, axis=-1)
    before_BV = jnp.cumsum(probabilities_BV, axis=-1) - probabilities_BV
    nucleus_BV = jnp.where(before_BV < nucleus.top_p, sorted_BV, -jnp.inf)
    picked_B = jax.random.categorical(key, nucleus_BV, axis=-1)
    return jnp.take_along_axis(order_BV, picked_B[:, None], axis=-1)[:, 0].astype(jnp.int32)
