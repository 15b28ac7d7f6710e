"""Scaled dot-product attention: one function for every tower."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from qwenvl_jax.model.mask import Visibility, allowed
from qwenvl_jax.parallel.shard import constrain
from qwenvl_jax.trees import Array


def attention(
    q_BTNH: Float[Array, "B T N H"],
    k_BSNH: Float[Array, "B S N H"],
    v_BSNH: Float[Array, "B S N H"],
    *,
    visibility: Visibility | None = None,
) -> Float[Array, "B T N H"]:
    """softmax(q k^T / sqrt(H)) v, scores and probabilities in float32; `visibility` None lets every
    query see every key.
    """
    q_BTNH = constrain(q_BTNH, "batch", None, "heads", None)
    k_BSNH = constrain(k_BSNH, "batch", None, "heads", None)
    scores_BNTS = jnp.einsum("btnh,bsnh->bnts", q_BTNH, k_BSNH, preferred_element_type=jnp.float32)
    scores_BNTS = scores_BNTS * q_BTNH.shape[-1] ** -0.5
    if visibility is not None:
        # A finite floor: a row that sees nothing (a free cache slot) stays free of NaN.
        floor = jnp.finfo(jnp.float32).min
        scores_BNTS = jnp.where(allowed(visibility)[:, None], scores_BNTS, floor)
    weights_BNTS = jax.nn.softmax(scores_BNTS, axis=-1).astype(v_BSNH.dtype)
    return jnp.einsum("bnts,bsnh->btnh", weights_BNTS, v_BSNH)
