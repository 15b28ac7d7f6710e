"""The vision tower: OpenCLIP's ViT without class token and without a last norm."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, UInt8

from qwenvl_jax.model import posemb, windows
from qwenvl_jax.model.attention import attention
from qwenvl_jax.model.config import ModelConfig, VitConfig
from qwenvl_jax.model.mlp import GeluMlp
from qwenvl_jax.model.norms import LayerNorm
from qwenvl_jax.model.stack import is_apart, stack
from qwenvl_jax.parallel.shard import constrain
from qwenvl_jax.trees import Array

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


class SelfAttention(nn.Module):
    """Fused projections with biases; a patch sees every patch, or those of its window."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, x_MPD: Float[Array, "M P D"], sees_all: Bool[Array, ""] | None
    ) -> Float[Array, "M P D"]:
        vit, dtype = self.config.vit, self.config.dtype
        start = nn.initializers.normal(vit.width**-0.5)
        end = nn.initializers.normal((2 * vit.layers * vit.width) ** -0.5)
        heads = (3, vit.heads, vit.head_width)
        qkv = nn.DenseGeneral(heads, dtype=dtype, kernel_init=start, name="qkv")(x_MPD)
        qkv = (qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        if sees_all is None:
            out_MPNH = attention(*qkv)
        else:
            out_MPNH = jax.lax.cond(sees_all, attention, self._in_windows, *qkv)
        out = nn.DenseGeneral(vit.width, axis=(-2, -1), dtype=dtype, kernel_init=end, name="out")
        return out(out_MPNH)

    def _in_windows(self, *qkv_MPNH: Float[Array, "M P N H"]) -> Float[Array, "M P N H"]:
        side = self.config.vit.window // self.config.vit.patch_size
        out_KWNH = attention(*(windows.split(x_MPNH, side) for x_MPNH in qkv_MPNH))
        return windows.join(out_KWNH, qkv_MPNH[0].shape[1])


class Block(nn.Module):
    """x + attn(ln_1(x)), then x + mlp(ln_2(x))."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x_MPD: Float[Array, "M P D"], sees_all, shared: None):
        vit = self.config.vit
        x_MPD = constrain(x_MPD, "batch", None, None)
        normed = LayerNorm(vit.eps, name="ln_1")(x_MPD)
        x_MPD = x_MPD + SelfAttention(self.config, name="attn")(normed, sees_all)
        normed = LayerNorm(vit.eps, name="ln_2")(x_MPD)
        mlp = GeluMlp(vit.width, vit.mlp_width, vit.layers, self.config.dtype, name="mlp")
        return x_MPD + mlp(normed), None


class PatchEmbedding(nn.Module):
    """The strided convolution as one matmul over flattened patches."""

    vit: VitConfig

    @nn.compact
    def __call__(self, pixels_MRRC: Float[Array, "M R R C"]) -> Float[Array, "M P D"]:
        p, width = self.vit.patch_size, self.vit.width
        init = nn.initializers.normal((p * p * 3) ** -0.5)
        kernel = self.param("kernel", init, (p, p, 3, width), jnp.float32)
        M, R = pixels_MRRC.shape[:2]
        patches = pixels_MRRC.reshape(M, R // p, p, R // p, p, 3).swapaxes(2, 3)
        patches = patches.reshape(M, (R // p) ** 2, p * p * 3)
        return patches @ kernel.reshape(p * p * 3, width).astype(patches.dtype)


class VisionTower(nn.Module):
    config: ModelConfig

    @nn.compact
    def __call__(self, images_MRRC: UInt8[Array, "M R R C"]) -> Float[Array, "M P D"]:
        """RGB bytes of any size that divides by the patch -> patch features in row-major order."""
        vit = self.config.vit
        pixels = (images_MRRC.astype(jnp.float32) / 255.0 - MEAN) / STD
        x_MPD = PatchEmbedding(vit, name="patch")(pixels.astype(self.config.dtype))
        table = self.param("positions", self._positions, (vit.position_grid**2, vit.width))
        positions_PD = posemb.resample(table, images_MRRC.shape[1] // vit.patch_size)
        x_MPD = LayerNorm(vit.eps, name="ln_pre")(x_MPD + positions_PD.astype(x_MPD.dtype))
        blocks = stack(
            Block,
            layers=vit.layers,
            remat=self.config.remat,
            scan=self.config.scan_layers,
            apart=is_apart(self.variables.get("params", {})),
            config=self.config,
            name="blocks",
        )
        x_MPD, _ = blocks(x_MPD, windows.global_layers(vit), None)
        return x_MPD

    def _positions(self, key, shape) -> Float[Array, "P D"]:
        vit = self.config.vit
        if vit.sincos_positions:
            return jnp.asarray(posemb.sincos_2d(vit.position_grid, vit.width))
        return nn.initializers.normal(vit.width**-0.5)(key, shape, jnp.float32)
