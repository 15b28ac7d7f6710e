"""Adapters to hold the cross-attention against: a query is what the patches of its cell say.

    patches 4 x 4        cells 2 x 2          one feature each
    a a b b
    a a b b      ->      aaaa bbbb     ->     A B
    c c d d              cccc dddd            C D
    c c d d

mlp      concatenated patches -> norm -> kv_proj -> GELU -> proj
pooling  their mean           -> norm -> proj
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.model.mlp import gelu
from qwenvl_jax.model.norms import LayerNorm
from qwenvl_jax.parallel.shard import constrain
from qwenvl_jax.trees import Array


class Projector(nn.Module):
    """`config.adapter.kind` mlp or pooling."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x_MPD: Float[Array, "M P K"]) -> Float[Array, "M Q D"]:
        """Patch features of any grid that the cells divide -> Q features of the decoder's width."""
        config, width, dtype = self.config.adapter, self.config.decoder.width, self.config.dtype
        x_MQCK = cells(x_MPD, config.grid)
        if config.kind == "pooling":
            x_MQK = jnp.mean(x_MQCK, axis=2)
        else:
            x_MQK = x_MQCK.reshape(*x_MQCK.shape[:2], -1)
        x_MQK = LayerNorm(config.eps, name="ln_kv")(x_MQK)
        if config.kind == "mlp":
            x_MQK = gelu(_dense(width, x_MQK.shape[-1], dtype, "kv_proj")(x_MQK))
        return constrain(_dense(width, x_MQK.shape[-1], dtype, "proj")(x_MQK), "batch", None, None)


def cells(x_MPD: Float[Array, "M P K"], grid: int) -> Float[Array, "M Q C K"]:
    """The patches of each of grid x grid cells, both in row-major order."""
    M, P, K = x_MPD.shape
    side = math.isqrt(P)
    assert side % grid == 0, (side, grid)
    of_cell = side // grid
    x = x_MPD.reshape(M, grid, of_cell, grid, of_cell, K).swapaxes(2, 3)
    return x.reshape(M, grid**2, of_cell**2, K)


def _dense(width: int, fan_in: int, dtype: str, name: str) -> nn.Dense:
    init = nn.initializers.normal(fan_in**-0.5)
    return nn.Dense(width, use_bias=False, dtype=dtype, kernel_init=init, name=name)
