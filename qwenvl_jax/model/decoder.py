"""The Qwen decoder: pre-norm blocks, rotary positions, an untied head."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32

from qwenvl_jax.model import rope
from qwenvl_jax.model.attention import attention
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.model.mask import Visibility
from qwenvl_jax.model.mlp import GatedMlp
from qwenvl_jax.model.norms import RMSNorm
from qwenvl_jax.model.stack import is_apart, stack
from qwenvl_jax.parallel.shard import constrain
from qwenvl_jax.trees import Array


class Cache(NamedTuple):
    """Keys (rotated) and values of every layer; S slots a row.

    Layers carry all of it along and write only their new slots: handed out and collected layer by
    layer it would be copied at every token. Heads stand before slots, as the products want them.
    """

    k_LBNSH: Float[Array, "L B N S H"]
    v_LBNSH: Float[Array, "L B N S H"]


class Shared(NamedTuple):
    """What all blocks of a pass have in common."""

    cos_BT1H: Float[Array, "B T 1 H"]
    sin_BT1H: Float[Array, "B T 1 H"]
    q_scale_BT11: Float[Array, "B T 1 1"]
    visibility: Visibility
    slot: Int32[Array, ""]  # where a cache takes the first of this pass's keys


class SelfAttention(nn.Module):
    """Causal attention within segments; fused projection with a bias, out-projection without."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x_BTD, cache: Cache | None, layer, shared: Shared):
        decoder, dtype = self.config.decoder, self.config.dtype
        start = nn.initializers.normal(decoder.weight_scale)
        end = nn.initializers.normal(decoder.weight_scale * (2 * decoder.layers) ** -0.5)
        heads = (3, decoder.heads, decoder.head_width)
        qkv = nn.DenseGeneral(heads, dtype=dtype, kernel_init=start, name="qkv")(x_BTD)
        q_BTNH = rope.rotate(qkv[:, :, 0], shared.cos_BT1H, shared.sin_BT1H)
        k_BTNH = rope.rotate(qkv[:, :, 1], shared.cos_BT1H, shared.sin_BT1H)
        q_BTNH = (q_BTNH * shared.q_scale_BT11).astype(q_BTNH.dtype)
        v_BTNH = qkv[:, :, 2]
        packed = cache is None
        if cache is not None:
            k_LBNSH = _write(cache.k_LBNSH, k_BTNH, layer, shared.slot)
            v_LBNSH = _write(cache.v_LBNSH, v_BTNH, layer, shared.slot)
            cache = Cache(k_LBNSH, v_LBNSH)
            k_BTNH, v_BTNH = (x[layer].swapaxes(1, 2) for x in cache)
        out_BTNH = attention(q_BTNH, k_BTNH, v_BTNH, visibility=shared.visibility, packed=packed)
        out = nn.DenseGeneral(
            decoder.width, axis=(-2, -1), use_bias=False, dtype=dtype, kernel_init=end, name="out"
        )
        return out(out_BTNH), cache


def _write(
    cache_LBNSH: Float[Array, "L B N S H"],
    new_BTNH: Float[Array, "B T N H"],
    layer: Int32[Array, ""],
    slot: Int32[Array, ""],
) -> Float[Array, "L B N S H"]:
    """A layer's new slots put in their place."""
    new_1BNTH = new_BTNH.swapaxes(1, 2)[None]
    return jax.lax.dynamic_update_slice(cache_LBNSH, new_1BNTH, (layer, 0, 0, slot, 0))


class Block(nn.Module):
    """x + attn(ln_1(x)), then x + mlp(ln_2(x)); outputs its input if asked."""

    config: ModelConfig
    keep_hidden: bool

    @nn.compact
    def __call__(self, carry, layer: Int32[Array, ""], shared: Shared):
        decoder, (x_BTD, cache) = self.config.decoder, carry
        x_BTD = entry_BTD = constrain(x_BTD, "batch", None, None)
        normed = RMSNorm(decoder.eps, name="ln_1")(x_BTD)
        mixed, cache = SelfAttention(self.config, name="attn")(normed, cache, layer, shared)
        x_BTD = x_BTD + mixed
        normed = RMSNorm(decoder.eps, name="ln_2")(x_BTD)
        mlp = GatedMlp(decoder, self.config.dtype, name="mlp")
        return (x_BTD + mlp(normed), cache), entry_BTD if self.keep_hidden else None


class Decoder(nn.Module):
    config: ModelConfig
    keep_hidden: bool = False

    def setup(self):
        decoder = self.config.decoder
        shape = (decoder.vocab_size, decoder.width)
        start = nn.initializers.normal(decoder.embedding_scale)
        self.embedding = self.param("embedding", start, shape, jnp.float32)
        self.blocks = stack(
            Block,
            layers=decoder.layers,
            remat=self.config.remat,
            scan=self.config.scan_layers,
            apart=is_apart(self.variables.get("params", {})),
            config=self.config,
            keep_hidden=self.keep_hidden,
        )
        self.ln_f = RMSNorm(decoder.eps)
        start = nn.initializers.normal(decoder.weight_scale)
        self.head = nn.Dense(
            decoder.vocab_size, use_bias=False, dtype=self.config.dtype, kernel_init=start
        )

    def embed(self, tokens_BT: Int32[Array, "B T"]) -> Float[Array, "B T D"]:
        """Token embeddings in the compute dtype."""
        table = self.embedding.astype(self.config.dtype)
        return constrain(jnp.take(table, tokens_BT, axis=0), "batch", None, None)

    def __call__(
        self,
        x_BTD: Float[Array, "B T D"],
        visibility: Visibility,
        *,
        alpha_B: Float[Array, "B"],
        q_scale_BT11: Float[Array, "B T 1 1"],
        cache: Cache | None = None,
        slot: Int32[Array, ""] | int = 0,
    ):
        """Blocks and last norm: (hidden_BTD, cache, hidden before every block as (L, B, T, D) or
        None).
        """
        decoder = self.config.decoder
        cos, sin = rope.angles(
            visibility.q_positions_BT, decoder.head_width, decoder.rope_base, alpha_B
        )
        shared = Shared(cos, sin, q_scale_BT11, visibility, jnp.asarray(slot, jnp.int32))
        layers = jnp.arange(decoder.layers, dtype=jnp.int32)
        (x_BTD, cache), entries = self.blocks((x_BTD, cache), layers, shared)
        return self.ln_f(x_BTD), cache, entries

    def logits(self, hidden_BTD: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """The head, float32."""
        return self.head(hidden_BTD).astype(jnp.float32)
