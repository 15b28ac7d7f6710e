"""The position-aware adapter: learned queries read the patches in one cross-attention layer.

q = ln_q(query) + 2-D positions
v = ln_kv(kv_proj(patches))
k = v + the same positions, resampled to the patches' grid
out = proj(ln_post(attention(q, k, v)))

For ablations an MLP over the patches of each cell of the queries' grid, or their mean, may stand in
the attention's place; ln_post and proj stay, so that features start at the same scale.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from qwenvl_jax.model import posemb
from qwenvl_jax.model.attention import attention
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.model.mlp import GeluMlp
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


def cells(x_MPD: Float[Array, "M P K"], grid: int) -> Float[Array, "M Q C K"]:
    """Row-major patches of square images -> those of each cell of a `grid` x `grid` raster.

    Raises:
      ValueError: the cells do not tile the patches.
    """
    M, P, K = x_MPD.shape
    side, rest = divmod(math.isqrt(P), grid)
    if rest:
        raise ValueError(
            f"config.model.adapter.num_queries={grid**2}: {grid} x {grid} cells do not tile"
            f" {math.isqrt(P)} x {math.isqrt(P)} patches"
        )
    x = x_MPD.reshape(M, grid, side, grid, side, K)
    return x.swapaxes(2, 3).reshape(M, grid**2, side**2, K)


class Adapter(nn.Module):
    config: ModelConfig

    @nn.compact
    def __call__(self, x_MPD: Float[Array, "M P K"]) -> Float[Array, "M Q D"]:
        """Patch features of any square grid -> Q features of the decoder's width.

        A kind other than cross-attention takes grids of whole cells; an MLP one size of them.
        """
        config, width, dtype = self.config.adapter, self.config.decoder.width, self.config.dtype
        if config.kind == "cross_attention":
            out_MQD = self._attend(x_MPD)
        else:
            x_MPD = LayerNorm(config.eps, name="ln_in")(x_MPD)
            x_MQCD = cells(x_MPD, config.grid)
            out_MQD = self._mlp(x_MQCD) if config.kind == "mlp" else self._pool(x_MQCD)
        out_MQD = LayerNorm(config.eps, name="ln_post")(out_MQD)
        init = nn.initializers.normal(width**-0.5)
        proj = nn.Dense(width, use_bias=False, dtype=dtype, kernel_init=init, name="proj")
        return constrain(proj(out_MQD), "batch", None, None)

    def _attend(self, x_MPD: Float[Array, "M P K"]) -> Float[Array, "M Q D"]:
        config, width, dtype = self.config.adapter, self.config.decoder.width, self.config.dtype
        normal = nn.initializers.truncated_normal(0.02)
        query_QD = self.param("query", normal, (config.num_queries, width), jnp.float32)
        init = nn.initializers.normal(0.02)
        kv_proj = nn.Dense(width, use_bias=False, dtype=dtype, kernel_init=init, name="kv_proj")
        k_MPD = v_MPD = LayerNorm(config.eps, name="ln_kv")(kv_proj(x_MPD))
        q_QD = LayerNorm(config.eps, name="ln_q")(query_QD.astype(dtype))
        if config.positions == "2d":
            positions_QD = posemb.sincos_2d(config.grid, width)
            keys_PD = posemb.resample(positions_QD, math.isqrt(x_MPD.shape[1]))
            q_QD = q_QD + positions_QD.astype(dtype)
            k_MPD = v_MPD + jnp.asarray(keys_PD, dtype)
        q_MQD = jnp.broadcast_to(q_QD, (x_MPD.shape[0], *q_QD.shape))
        return CrossAttention(self.config, name="attn")(q_MQD, k_MPD, v_MPD)

    def _mlp(self, x_MQCK: Float[Array, "M Q C K"]) -> Float[Array, "M Q D"]:
        width = self.config.decoder.width
        x_MQK = x_MQCK.reshape(*x_MQCK.shape[:2], -1)
        return GeluMlp(width, width, 1, self.config.dtype, name="mlp")(x_MQK)

    def _pool(self, x_MQCK: Float[Array, "M Q C K"]) -> Float[Array, "M Q D"]:
        width, dtype = self.config.decoder.width, self.config.dtype
        init = nn.initializers.normal(0.02)
        in_proj = nn.Dense(width, use_bias=False, dtype=dtype, kernel_init=init, name="in_proj")
        return in_proj(x_MQCK.mean(axis=2))
