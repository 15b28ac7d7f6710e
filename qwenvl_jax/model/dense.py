"""Attention by the scores of all keys: the reference."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from qwenvl_jax.model.mask import Visibility, allowed
from qwenvl_jax.trees import Array


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
