"""The next token from scores: the best one, or a draw from the nucleus."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32

from qwenvl_jax.trees import Array


def choose(
    logits_BV: Float[Array, "B V"], key: jax.Array, *, temperature: float, top_p: float
) -> Int32[Array, "B"]:
    """Greedy where `temperature` is 0, else a draw among the smallest set of tokens that holds
    `top_p` of the probability.
    """
    if temperature == 0.0:
        return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
    scaled_BV = logits_BV / temperature
    order_BV = jnp.argsort(-scaled_BV, axis=-1)
    sorted_BV = jnp.take_along_axis(scaled_BV, order_BV, axis=-1)
    probabilities_BV = jax.nn.softmax(sorted_BV, axis=-1)
    before_BV = jnp.cumsum(probabilities_BV, axis=-1) - probabilities_BV
    nucleus_BV = jnp.where(before_BV < top_p, sorted_BV, -jnp.inf)
    picked_B = jax.random.categorical(key, nucleus_BV, axis=-1)
    return jnp.take_along_axis(order_BV, picked_B[:, None], axis=-1)[:, 0].astype(jnp.int32)
