"""Scaled dot-product attention: one function for every tower, one place where its kernel is chosen.

TPU     splash, for rows of whole blocks
GPU     cuDNN, for what its kernel takes
else    the dense reference, and everywhere for queries into a cache
"""

import functools
import math

import jax
from absl import logging
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Float

from qwenvl_jax.model import cudnn, splash
from qwenvl_jax.model.dense import dense
from qwenvl_jax.model.mask import Visibility
from qwenvl_jax.model.stack import ATTENTION, QKV
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
      packed: queries and keys are the same row, a segment is one stretch of it, and positions
      ascend within it. What padding (segment 0) then sees is left open.
    """
    q_BTNH = constrain(q_BTNH, "batch", None, "heads", None)
    k_BSNH = constrain(k_BSNH, "batch", None, "heads", None)
    q_BTNH, k_BSNH, v_BSNH = (checkpoint_name(x, QKV) for x in (q_BTNH, k_BSNH, v_BSNH))
    platform, ways, tensor = _target()
    B, T, N, _ = q_BTNH.shape
    segments_BT = None if visibility is None else visibility.q_segments_BT
    if (packed or visibility is None) and B % ways == 0 and N % tensor == 0:
        if platform == "tpu" and T == k_BSNH.shape[1] and splash.fits(T):
            return splash.splash(q_BTNH, k_BSNH, v_BSNH, segments_BT)
        if platform == "gpu":
            try:
                return cudnn.fused(q_BTNH, k_BSNH, v_BSNH, segments_BT)
            except RuntimeError as error:  # NotImplementedError among them, or no cuDNN at all
                _say_once(str(error))
    return checkpoint_name(dense(q_BTNH, k_BSNH, v_BSNH, visibility=visibility), ATTENTION)


def _target() -> tuple[str, int, int]:
    """The platform that the traced program is for, and the mesh's ways along rows and heads."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.abstract_device is None:
        platform = jax.default_backend()
    else:  # of the mesh's chips, which need not be this machine's
        platform = mesh.abstract_device.platform
    ways = math.prod(mesh.shape.get(axis, 1) for axis in ("data", "fsdp"))
    return platform, ways, mesh.shape.get("tensor", 1)


@functools.cache
def _say_once(reason: str) -> None:
    logging.warning("attention without cuDNN, by all scores at once: %s", reason)
