"""Attention on NVIDIA GPUs: cuDNN's fused kernel through JAX's own entry to it.

Packed rows are told to cuDNN as where their segments start and how long they are; an explicit mask
would drop it to a slow path. Every segment is causal from its start on, padding as well, so that no
position is left unwritten:

    segments   1 1 1 2 2 0 0 0        starts   0  3  5 -1 -1
                                      lengths  3  2  3 -1

cuDNN wants a fixed number of segments a row, `batch.most_segments`: the stream packs no more. A row
that has more all the same is made NaN, as what lies beyond would be left unwritten.

The kernel takes bfloat16 and float16, head widths that are multiples of 8, and packed rows on
Hopper and later. JAX raises NotImplementedError for the rest.
"""

import jax
import jax.numpy as jnp
from jax._src.cudnn.fused_attention_stablehlo import MaskType, dot_product_attention
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec
from jaxtyping import Float, Int32

from qwenvl_jax.batch import most_segments
from qwenvl_jax.model.stack import QKV
from qwenvl_jax.trees import Array


def runs(
    segments_BT: Int32[Array, "B T"], most: int
) -> tuple[Int32[Array, "B E"], Int32[Array, "B M"], Int32[Array, "B"]]:
    """Where the stretches of equal segment ids start, how long they are, and their number.

    Args:
      most: M; starts have E = M + 1 entries, so that there is always a free one. What is free
      holds -1. Where a row has more than M stretches, only their number is to be used.
    """
    T = segments_BT.shape[1]
    new_BT = jnp.diff(segments_BT, axis=1, prepend=-1) != 0

    def of_row(new_T):
        return jnp.nonzero(new_T, size=most + 1, fill_value=T)[0].astype(jnp.int32)

    starts_BE = jax.vmap(of_row)(new_BT)
    lengths_BM = jnp.diff(starts_BE, axis=1)
    count_B = jnp.sum(new_BT, axis=1, dtype=jnp.int32)
    return jnp.where(starts_BE < T, starts_BE, -1), jnp.where(lengths_BM, lengths_BM, -1), count_B


def fused(
    q_BTNH: Float[Array, "B T N H"],
    k_BSNH: Float[Array, "B S N H"],
    v_BSNH: Float[Array, "B S N H"],
    segments_BT: Int32[Array, "B T"] | None,
) -> Float[Array, "B T N H"]:
    """Causal attention within segments; full attention where `segments_BT` is None.

    Raises:
      NotImplementedError: dtype, head width or GPU are not the kernel's; says which.
    """
    mesh = jax.sharding.get_abstract_mesh()
    local = _local
    if not mesh.empty:  # offsets count from a device's own first row
        heads = PartitionSpec(("data", "fsdp"), None, "tensor")
        rows = None if segments_BT is None else PartitionSpec(("data", "fsdp"))
        local = jax.shard_map(
            local, in_specs=(heads, heads, heads, rows), out_specs=heads, check_vma=False
        )
    return local(q_BTNH, k_BSNH, v_BSNH, segments_BT)


def _local(q_BTNH, k_BSNH, v_BSNH, segments_BT):
    _, T, _, width = q_BTNH.shape
    scale = width**-0.5
    if segments_BT is None:
        return dot_product_attention(q_BTNH, k_BSNH, v_BSNH, scale=scale)
    most = most_segments(T)
    starts_BE, lengths_BM, count_B = runs(segments_BT, most)
    q_BTNH = jnp.where(jnp.max(count_B) <= most, q_BTNH, jnp.nan)
    return dot_product_attention(
        checkpoint_name(q_BTNH, QKV),
        k_BSNH,
        v_BSNH,
        q_seqlen=lengths_BM,
        kv_seqlen=lengths_BM,
        q_offsets=starts_BE,
        kv_offsets=starts_BE,
        scale=scale,
        mask_type=MaskType.PADDING_CAUSAL,
    )
