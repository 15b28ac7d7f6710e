"""LayerNorm (vision) and RMSNorm (decoder), statistics in float32."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from qwenvl_jax.trees import Array


class LayerNorm(nn.Module):
    """`(x - mean) / sqrt(var + eps) * scale + bias` over the last dim, in float32, cast back."""

    eps: float

    @nn.compact
    def __call__(self, x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        wide = x.astype(jnp.float32)
        mean = jnp.mean(wide, axis=-1, keepdims=True)
        var = jnp.mean(jnp.square(wide - mean), axis=-1, keepdims=True)
        normed = (wide - mean) * jax.lax.rsqrt(var + self.eps)
        return (normed * scale + bias).astype(x.dtype)


class RMSNorm(nn.Module):
    """`x / rms(x)` in float32, cast back, then times the weight, as the released decoder does."""

    eps: float

    @nn.compact
    def __call__(self, x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        wide = x.astype(jnp.float32)
        rms = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + self.eps)
        return (wide * rms).astype(x.dtype) * scale.astype(x.dtype)
