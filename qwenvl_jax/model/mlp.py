"""The two feed-forward layers: GELU with biases (vision), gated SiLU without (decoder)."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from qwenvl_jax.model.config import DecoderConfig
from qwenvl_jax.parallel.shard import constrain
from qwenvl_jax.trees import Array


def gelu(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """x * Phi(x), the exact GELU.

    In bfloat16 by erf in float32, as PyTorch has it. JAX's own takes erfc, whose digits far out
    only float32 can show, and rounds in between: off by up to 3 last digits, and on a GPU three
    times as long as reading and writing a layer takes, where erf hides behind them.
    """
    if x.dtype == jnp.float32:
        return jax.nn.gelu(x, approximate=False)
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1 + jax.lax.erf(wide * 2**-0.5))).astype(x.dtype)


class GeluMlp(nn.Module):
    """down(gelu(up(x))), the exact (erf) GELU or OpenAI's x * sigmoid(1.702 x)."""

    width: int
    mlp_width: int
    layers: int  # the out-projection's start is scaled down with depth
    dtype: str
    activation: Literal["gelu", "quick_gelu"] = "gelu"

    @nn.compact
    def __call__(self, x_BPD: Float[Array, "B P D"]) -> Float[Array, "B P D"]:
        up = nn.initializers.normal((2 * self.width) ** -0.5)
        down = nn.initializers.normal((2 * self.layers * self.width) ** -0.5)
        h_BPF = nn.Dense(self.mlp_width, dtype=self.dtype, kernel_init=up, name="up")(x_BPD)
        quick = self.activation == "quick_gelu"
        h_BPF = h_BPF * jax.nn.sigmoid(1.702 * h_BPF) if quick else gelu(h_BPF)
        h_BPF = constrain(h_BPF, "batch", None, "mlp")
        return nn.Dense(self.width, dtype=self.dtype, kernel_init=down, name="down")(h_BPF)


class GatedMlp(nn.Module):
    """down(up(x) * silu(gate(x))); the released names are w1 (up), w2 (gate), c_proj (down)."""

    config: DecoderConfig
    dtype: str

    @nn.compact
    def __call__(self, x_BTD: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        decoder, start = self.config, self.config.weight_scale

        def dense(features, std, name):
            init = nn.initializers.normal(std)
            return nn.Dense(features, use_bias=False, dtype=self.dtype, kernel_init=init, name=name)

        gate_BTF = dense(decoder.mlp_width, start, "gate")(x_BTD)
        up_BTF = dense(decoder.mlp_width, start, "up")(x_BTD)
        h_BTF = constrain(up_BTF * jax.nn.silu(gate_BTF), "batch", None, "mlp")
        return dense(decoder.width, start * (2 * decoder.layers) ** -0.5, "down")(h_BTF)
