"""Packed attention on TPU: JAX's splash kernel, padded to what the chip multiplies.

The kernel skips blocks above the diagonal, and takes segments as ids instead of a mask. Heads are
padded with zeros to a multiple of 128, which changes neither a score nor an output. A Pallas
kernel says nothing to XLA of how it may be split, so it runs under shard_map.
"""

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.sharding import PartitionSpec
from jaxtyping import Float, Int32

from qwenvl_jax.model.stack import ATTENTION
from qwenvl_jax.trees import Array

LANES = 128  # what head widths and lengths are multiples of
# The largest that divides the length. Not 1,024: of a row of 2,048 that would compute 3/4 where 512
# computes 5/8, and half is below the diagonal.
BLOCKS = (512, 256, 128)


def fits(length: int) -> bool:
    """Whether a row of so many positions falls into whole blocks."""
    return length % LANES == 0


def splash(
    q_BTNH: Float[Array, "B T N H"],
    k_BTNH: Float[Array, "B T N H"],
    v_BTNH: Float[Array, "B T N H"],
    segments_BT: Int32[Array, "B T"] | None,
    *,
    interpret: bool = False,
) -> Float[Array, "B T N H"]:
    """Causal attention within segments; full attention where `segments_BT` is None.

    Args:
      interpret: run the kernel's program step by step on any platform, for tests.
    """
    width = q_BTNH.shape[-1]
    pad = [(0, 0)] * 3 + [(0, -width % LANES)]
    q_BNTH, k_BNTH, v_BNTH = (
        jnp.pad(x, pad).swapaxes(1, 2) for x in (q_BTNH * width**-0.5, k_BTNH, v_BTNH)
    )

    def local(q_BNTH, k_BNTH, v_BNTH, segments_BT):
        kernel = _kernel(*q_BNTH.shape[1:3], segments_BT is not None, interpret)
        ids = None if segments_BT is None else kernels.SegmentIds(segments_BT, segments_BT)
        return jax.vmap(kernel)(q_BNTH, k_BNTH, v_BNTH, ids)

    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty:
        heads = PartitionSpec(("data", "fsdp"), "tensor")
        rows = None if segments_BT is None else PartitionSpec(("data", "fsdp"))
        local = jax.shard_map(
            local, in_specs=(heads, heads, heads, rows), out_specs=heads, check_vma=False
        )
    out_BNTH = local(q_BNTH, k_BNTH, v_BNTH, segments_BT)
    return out_BNTH.swapaxes(1, 2)[..., :width]


def _kernel(heads: int, length: int, causal: bool, interpret: bool):
    shape = (length, length)
    mask = masks.CausalMask(shape) if causal else masks.FullMask(shape)
    block = next(block for block in BLOCKS if length % block == 0)
    sizes = kernels.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        use_fused_bwd_kernel=True,  # makes the scores once for all three gradients, not twice
    )
    return kernels.make_splash_mha_single_device(
        masks.MultiHeadMask([mask] * heads),
        block_sizes=sizes,
        residual_checkpoint_name=ATTENTION,
        interpret=interpret,
    )
