"""The position-aware adapter: learned queries read the patches in one cross-attention layer.

q = ln_q(query) + 2-D positions
v = ln_kv(kv_proj(patches))
k = v + the same positions, resampled to the patches' grid
out = proj(ln_post(attention(q, k, v)))
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from qwenvl_jax.model import posemb
from qwenvl_jax.model.attention import attention
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.model.norms import LayerNorm
from qwenvl_jax.parallel.shard import constrain
from qwenvl_jax.trees import Array


class CrossAttention(nn.Module):
    """torch.nn.MultiheadAttention's equations, projections apart."""

    config: ModelConfig

    @nn.compact
    def __call__(self, q_MQD, k_MPD, v_MPD) -> Float[Array, "M Q D"]:
        width, heads = self.config.decoder.width, self.config.adapter.heads
        bound = math.sqrt(6 / (width + 3 * width))  # Xavier of the fused (3D, D) projection

        def uniform(key, shape, dtype):
            return nn.initializers.uniform(2 * bound)(key, shape, dtype) - bound

        def project(x, name):
            dense = nn.DenseGeneral(
                (heads, width // heads), dtype=self.config.dtype, kernel_init=uniform, name=name
            )
            return dense(x)

        out = attention(project(q_MQD, "q"), project(k_MPD, "k"), project(v_MPD, "v"))
        init = nn.initializers.normal(0.02)
        dense = nn.DenseGeneral(
            width, axis=(-2, -1), dtype=self.config.dtype, kernel_init=init, name="out"
        )
        return dense(out)


class Adapter(nn.Module):
    config: ModelConfig

    @nn.compact
    def __call__(self, x_MPD: Float[Array, "M P K"]) -> Float[Array, "M Q D"]:
        """Patch features of any square grid -> Q features of the decoder's width."""
        config, width, dtype = self.config.adapter, self.config.decoder.width, self.config.dtype
        normal = nn.initializers.truncated_normal(0.02)
        query_QD = self.param("query", normal, (config.num_queries, width), jnp.float32)
        positions_QD = posemb.sincos_2d(config.grid, width)
        positions_QD = positions_QD * config.positions
        keys_PD = posemb.resample(positions_QD, math.isqrt(x_MPD.shape[1]))

        init = nn.initializers.normal(0.02)
        kv_proj = nn.Dense(width, use_bias=False, dtype=dtype, kernel_init=init, name="kv_proj")
        kv_MPD = LayerNorm(config.eps, name="ln_kv")(kv_proj(x_MPD))
        q_QD = LayerNorm(config.eps, name="ln_q")(query_QD.astype(dtype))
        q_QD = q_QD + positions_QD.astype(dtype)
        q_MQD = jnp.broadcast_to(q_QD, (x_MPD.shape[0], *q_QD.shape))
        k_MPD = kv_MPD + jnp.asarray(keys_PD, dtype)
        out_MQD = CrossAttention(self.config, name="attn")(q_MQD, k_MPD, kv_MPD)

        out_MQD = LayerNorm(config.eps, name="ln_post")(out_MQD)
        init = nn.initializers.normal(width**-0.5)
        proj = nn.Dense(width, use_bias=False, dtype=dtype, kernel_init=init, name="proj")
        return constrain(proj(out_MQD), "batch", None, None)
