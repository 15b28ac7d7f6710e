"""CLIP: how well a text fits a picture, as one cosine (Radford et al. 2021, arXiv 2103.00020).

Two towers of pre-norm blocks, each read at one position: the picture's at its class token, the
text's at its end token. Data cleaning asks it for scores; the Qwen-VL model does not use it.
"""

import dataclasses
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int32, UInt8

from qwenvl_jax import trees
from qwenvl_jax.model.attention import attention
from qwenvl_jax.model.config import VitConfig
from qwenvl_jax.model.mask import Visibility
from qwenvl_jax.model.mlp import GeluMlp
from qwenvl_jax.model.norms import LayerNorm
from qwenvl_jax.model.stack import stack
from qwenvl_jax.model.vit import MEAN, STD, PatchEmbedding
from qwenvl_jax.parallel.shard import constrain
from qwenvl_jax.trees import Array


@dataclasses.dataclass(frozen=True)
class ClipTextConfig:
    """The text tower."""

    vocab_size: int  # its last id ends a text
    context_length: int  # positions, start and end token among them
    width: int
    layers: int
    heads: int
    mlp_width: int
    eps: float = 1e-5


@dataclasses.dataclass(frozen=True)
class ClipConfig:
    """Both towers and the space in which they meet."""

    vit: VitConfig
    text: ClipTextConfig
    embed_dim: int
    activation: Literal["gelu", "quick_gelu"] = "gelu"
    mean: tuple[float, float, float] = tuple(map(float, MEAN))  # of colours in 0..1
    std: tuple[float, float, float] = tuple(map(float, STD))
    dtype: Literal["float32", "bfloat16"] = "float32"  # of activations and matmuls


class SelfAttention(nn.Module):
    """torch.nn.MultiheadAttention's equations, projections apart."""

    sizes: VitConfig | ClipTextConfig
    dtype: str

    @nn.compact
    def __call__(self, x_BTD: Float[Array, "B T D"], visibility: Visibility | None) -> Array:
        width, heads = self.sizes.width, self.sizes.heads

        def project(name):
            dense = nn.DenseGeneral((heads, width // heads), dtype=self.dtype, name=name)
            return dense(x_BTD)

        out = attention(project("q"), project("k"), project("v"), visibility=visibility)
        return nn.DenseGeneral(width, axis=(-2, -1), dtype=self.dtype, name="out")(out)


class Block(nn.Module):
    """x + attn(ln_1(x)), then x + mlp(ln_2(x))."""

    sizes: VitConfig | ClipTextConfig
    activation: str
    dtype: str

    @nn.compact
    def __call__(self, x_BTD, per_layer: None, visibility: Visibility | None):
        sizes = self.sizes
        x_BTD = constrain(x_BTD, "batch", None, None)
        normed = LayerNorm(sizes.eps, name="ln_1")(x_BTD)
        x_BTD = x_BTD + SelfAttention(sizes, self.dtype, name="attn")(normed, visibility)
        normed = LayerNorm(sizes.eps, name="ln_2")(x_BTD)
        mlp = GeluMlp(
            sizes.width, sizes.mlp_width, sizes.layers, self.dtype, self.activation, name="mlp"
        )
        return x_BTD + mlp(normed), None


def _blocks(config: ClipConfig, sizes: VitConfig | ClipTextConfig) -> nn.Module:
    return stack(
        Block, layers=sizes.layers, remat="none", scan=True, sizes=sizes,
        activation=config.activation, dtype=config.dtype, name="blocks",
    )  # fmt: skip


class VisionTower(nn.Module):
    config: ClipConfig

    @nn.compact
    def __call__(self, images_BRRC: UInt8[Array, "B R R C"]) -> Float[Array, "B E"]:
        vit, dtype = self.config.vit, self.config.dtype
        mean, std = np.array(self.config.mean), np.array(self.config.std)
        pixels = ((images_BRRC / 255.0 - mean) / std).astype(dtype)
        x_BPD = PatchEmbedding(vit, name="patch")(pixels)
        normal = nn.initializers.normal(vit.width**-0.5)
        class_D = self.param("class", normal, (vit.width,), jnp.float32)
        table_PD = self.param(
            "positions", normal, (vit.position_grid**2 + 1, vit.width), jnp.float32
        )
        class_B1D = jnp.broadcast_to(class_D.astype(dtype), (x_BPD.shape[0], 1, vit.width))
        x_BPD = jnp.concatenate([class_B1D, x_BPD], axis=1) + table_PD.astype(dtype)
        x_BPD = LayerNorm(vit.eps, name="ln_pre")(x_BPD)
        x_BPD, _ = _blocks(self.config, vit)(x_BPD, None, None)
        x_BD = LayerNorm(vit.eps, name="ln_post")(x_BPD[:, 0])
        return nn.Dense(self.config.embed_dim, use_bias=False, dtype=dtype, name="proj")(x_BD)


class TextTower(nn.Module):
    config: ClipConfig

    @nn.compact
    def __call__(self, ids_BT: Int32[Array, "B T"]) -> Float[Array, "B E"]:
        text, dtype = self.config.text, self.config.dtype
        normal = nn.initializers.normal(0.02)
        table_VD = self.param("embedding", normal, (text.vocab_size, text.width), jnp.float32)
        places_TD = self.param("positions", normal, (text.context_length, text.width), jnp.float32)
        x_BTD = (table_VD[ids_BT] + places_TD).astype(dtype)
        # Padding comes after the end token, which sees only what stands before it: one segment.
        one_BT = jnp.ones_like(ids_BT)
        steps_BT = jnp.broadcast_to(jnp.arange(ids_BT.shape[1], dtype=jnp.int32), ids_BT.shape)
        visibility = Visibility(one_BT, steps_BT, one_BT, steps_BT)
        x_BTD, _ = _blocks(self.config, text)(x_BTD, None, visibility)
        end_B = jnp.argmax(ids_BT, axis=1)  # the end token has the greatest id
        x_BD = jnp.take_along_axis(x_BTD, end_B[:, None, None], axis=1)[:, 0]
        x_BD = LayerNorm(text.eps, name="ln_final")(x_BD)
        return nn.Dense(self.config.embed_dim, use_bias=False, dtype=dtype, name="proj")(x_BD)


class Clip(nn.Module):
    config: ClipConfig

    def setup(self):
        self.vision = VisionTower(self.config)
        self.text = TextTower(self.config)

    def __call__(
        self, images_BRRC: UInt8[Array, "B R R C"], ids_BT: Int32[Array, "B T"]
    ) -> Float[Array, "B"]:
        """The cosine of every picture with the text of its own row, float32."""
        images_BE, texts_BE = self.vision(images_BRRC), self.text(ids_BT)
        images_BE, texts_BE = (x.astype(jnp.float32) for x in (images_BE, texts_BE))
        scales_B = jnp.linalg.norm(images_BE, axis=1) * jnp.linalg.norm(texts_BE, axis=1)
        return jnp.sum(images_BE * texts_BE, axis=1) / scales_B


def parameter_shapes(config: ClipConfig) -> trees.Tree:
    """CLIP's parameters as ShapeDtypeStructs."""
    side = config.vit.image_size
    images_BRRC = jnp.zeros((1, side, side, 3), jnp.uint8)
    ids_BT = jnp.zeros((1, config.text.context_length), jnp.int32)
    init = Clip(config).init
    return jax.eval_shape(init, jax.random.key(0), images_BRRC, ids_BT)["params"]
