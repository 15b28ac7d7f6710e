"""Attention by the scores of all keys: the reference, and a way to it in little memory."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Float

from qwenvl_jax.model.mask import Visibility, allowed
from qwenvl_jax.trees import Array

BLOCK = 128  # queries at a time


def dense(
    q_BTNH: Float[Array, "B T N H"],
    k_BSNH: Float[Array, "B S N H"],
    v_BSNH: Float[Array, "B S N H"],
    *,
    visibility: Visibility | None,
) -> Float[Array, "B T N H"]:
    """softmax(q k^T / sqrt(H)) v by all scores at once; `visibility` None: every key is seen."""
    scores_BNTS = jnp.einsum("btnh,bsnh->bnts", q_BTNH, k_BSNH, preferred_element_type=jnp.float32)
    scores_BNTS = scores_BNTS * q_BTNH.shape[-1] ** -0.5
    if visibility is not None:
        # A finite floor: a row that sees nothing (a free cache slot) stays free of NaN.
        floor = jnp.finfo(jnp.float32).min
        scores_BNTS = jnp.where(allowed(visibility)[:, None], scores_BNTS, floor)
    weights_BNTS = jax.nn.softmax(scores_BNTS, axis=-1).astype(v_BSNH.dtype)
    return jnp.einsum("bnts,bsnh->btnh", weights_BNTS, v_BSNH)


def dense_by_blocks(
    q_BTNH: Float[Array, "B T N H"],
    k_BSNH: Float[Array, "B S N H"],
    v_BSNH: Float[Array, "B S N H"],
    *,
    visibility: Visibility,
) -> Float[Array, "B T N H"]:
    """`dense`, some queries at a time: slow, and never a tensor of all scores, backward neither."""
    B, T, N, H = q_BTNH.shape
    size = math.gcd(T, BLOCK)

    @jax.checkpoint
    def block(start):
        def part(x):
            return jax.lax.dynamic_slice_in_dim(x, start, size, axis=1)

        seen = visibility._replace(
            q_segments_BT=part(visibility.q_segments_BT),
            q_positions_BT=part(visibility.q_positions_BT),
        )
        return dense(part(q_BTNH), k_BSNH, v_BSNH, visibility=seen)

    out = jax.lax.map(block, jnp.arange(0, T, size))
    return out.swapaxes(0, 1).reshape(B, T, N, H)
