"""Scaled dot-product attention: one function for every tower, one place where its kernel is chosen.

On TPU, rows of whole blocks go to the splash kernel; all else goes through the dense reference.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Float

from qwenvl_jax.model import splash
from qwenvl_jax.model.mask import Visibility, allowed
from qwenvl_jax.parallel.shard import constrain
from qwenvl_jax.trees import Array


def attention(
    q_BTNH: Float[Array, "B T N H"],
    k_BSNH: Float[Array, "B S N H"],
    v_BSNH: Float[Array, "B S N H"],
    *,
    visibility: Visibility | None = None,
    packed: bool = False,
) -> Float[Array, "B T N H"]:
    """softmax(q k^T / sqrt(H)) v, scores and probabilities in float32.

    Args:
      visibility: which keys a query sees; None: all.
      packed: queries and keys are the same row, and positions ascend within a segment. What
      padding (segment 0) then sees is left open.
    """
    q_BTNH = constrain(q_BTNH, "batch", None, "heads", None)
    k_BSNH = constrain(k_BSNH, "batch", None, "heads", None)
    if _is_for_splash(q_BTNH, k_BSNH) and (packed or visibility is None):
        segments_BT = None if visibility is None else visibility.q_segments_BT
        return splash.splash(q_BTNH, k_BSNH, v_BSNH, segments_BT)
    return dense(q_BTNH, k_BSNH, v_BSNH, visibility=visibility)


def _is_for_splash(q_BTNH: jax.Array, k_BSNH: jax.Array) -> bool:
    """Whether the program that is traced is for TPUs, and its shapes are the kernel's."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.abstract_device is None:
        on_tpu = jax.default_backend() == "tpu"
    else:  # of the mesh's chips, which need not be this machine's
        on_tpu = mesh.abstract_device.platform == "tpu"
    B, T, N, _ = q_BTNH.shape
    ways = math.prod(mesh.shape.get(axis, 1) for axis in ("data", "fsdp"))
    divides = B % ways == 0 and N % mesh.shape.get("tensor", 1) == 0
    return on_tpu and T == k_BSNH.shape[1] and splash.fits(T) and divides


def dense(
    q_BTNH: Float[Array, "B T N H"],
    k_BSNH: Float[Array, "B S N H"],
    v_BSNH: Float[Array, "B S N H"],
    *,
    visibility: Visibility | None,
) -> Float[Array, "B T N H"]:
    """The reference, by all scores at once."""
    scores_BNTS = jnp.einsum("btnh,bsnh->bnts", q_BTNH, k_BSNH, preferred_element_type=jnp.float32)
    scores_BNTS = scores_BNTS * q_BTNH.shape[-1] ** -0.5
    if visibility is not None:
        # A finite floor: a row that sees nothing (a free cache slot) stays free of NaN.
        floor = jnp.finfo(jnp.float32).min
        scores_BNTS = jnp.where(allowed(visibility)[:, None], scores_BNTS, floor)
    weights_BNTS = jax.nn.softmax(scores_BNTS, axis=-1).astype(v_BSNH.dtype)
    return jnp.einsum("bnts,bsnh->btnh", weights_BNTS, v_BSNH)
