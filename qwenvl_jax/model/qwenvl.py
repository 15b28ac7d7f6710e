"""Qwen-VL as functions of (config, parameters): what trainer, inference and conversion call.

Parameters are nested dicts {vit, adapter, decoder}; docs/design.md lists their paths.
"""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32, UInt8

from qwenvl_jax.batch import Batch
from qwenvl_jax.model import rope
from qwenvl_jax.model.adapter import Adapter
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.model.decoder import Cache, Decoder
from qwenvl_jax.model.mask import Visibility
from qwenvl_jax.model.projector import Projector
from qwenvl_jax.model.splice import splice
from qwenvl_jax.model.stack import is_apart, put_together, take_apart
from qwenvl_jax.model.vit import VisionTower
from qwenvl_jax.trees import Array

Params = Any
Mode = Literal["train", "eval"]


class QwenVL(nn.Module):
    """The three towers under one roof."""

    config: ModelConfig
    keep_hidden: bool = False

    def setup(self):
        self.vit = VisionTower(self.config)
        crossing = self.config.adapter.kind == "cross_attention"
        self.adapter = (Adapter if crossing else Projector)(self.config)
        self.decoder = Decoder(self.config, self.keep_hidden)

    def see(self, images_MRRC):
        return self.adapter(self.vit(images_MRRC))

    def embed(self, tokens_BT, images_GIRRC):
        """Token embeddings with every image in its place."""
        x_BTD = self.decoder.embed(tokens_BT)
        groups, slots = images_GIRRC.shape[:2]
        if slots == 0:
            return x_BTD
        features = self.see(images_GIRRC.reshape(groups * slots, *images_GIRRC.shape[2:]))
        features = features.reshape(groups, slots, *features.shape[1:])
        # The rows of a group one after the other, as one long row.
        tokens, rows = tokens_BT.reshape(groups, -1), x_BTD.reshape(groups, -1, x_BTD.shape[-1])
        spliced = splice(rows, features, tokens, self.config.decoder.image_pad_id)
        return spliced.reshape(x_BTD.shape)

    def run(self, x_BTD, visibility, alpha_B, q_scale_BT11, cache=None, slot=0):
        return self.decoder(
            x_BTD,
            visibility,
            alpha_B=alpha_B,
            q_scale_BT11=q_scale_BT11,
            cache=cache,
            slot=slot,
        )

    def logits(self, hidden_BTD):
        return self.decoder.logits(hidden_BTD)

    def everything(self, tokens_BT, images_GIRRC):
        x_BTD = self.embed(tokens_BT, images_GIRRC)
        B, T = tokens_BT.shape
        ones = jnp.ones((B, T), jnp.int32)
        hidden, _, _ = self.run(
            x_BTD, Visibility(ones, ones, ones, ones), jnp.ones(B), jnp.ones((B, T, 1, 1))
        )
        return self.logits(hidden)


def init(config: ModelConfig, key: jax.Array) -> Params:
    """Random float32 parameters; traceable, so that they can be made in their shards.

    Always by a scan, which draws the same and compiles many times faster than layers in a row.
    """
    config = dataclasses.replace(config, scan_layers=True)
    side = config.vit.image_size
    tokens = jnp.zeros((1, 1), jnp.int32)
    images = jnp.zeros((1, 1, side, side, 3), jnp.uint8)
    return QwenVL(config).init(key, tokens, images, method=QwenVL.everything)["params"]


def image_features(
    config: ModelConfig, params: Params, images_MRRC: UInt8[Array, "M R R C"]
) -> Float[Array, "M Q D"]:
    """What the decoder sees of each image: the adapter's output after `proj`."""
    return QwenVL(config).apply({"params": params}, images_MRRC, method=QwenVL.see)


def embed(
    config: ModelConfig,
    params: Params,
    tokens_BT: Int32[Array, "B T"],
    images_GIRRC: UInt8[Array, "G I R R C"],
) -> Float[Array, "B T D"]:
    """The decoder's input. B / G successive rows take the images of a group (see `batch.py`)."""
    return QwenVL(config).apply({"params": params}, tokens_BT, images_GIRRC, method=QwenVL.embed)


def long_context(
    config: ModelConfig, positions_BT: Int32[Array, "B T"], length_B: Int32[Array, "B"], mode: Mode
) -> tuple[Float[Array, "B"], Float[Array, "B T 1 1"]]:
    """(NTK alpha, log-n factors on queries): 1 in training, the released rules in evaluation.

    Args:
      length_B: length of each row's prompt pass.
    """
    if mode == "train":
        return jnp.ones(length_B.shape), jnp.ones((*positions_BT.shape, 1, 1))
    limit = config.decoder.train_length
    return rope.ntk_alpha(length_B, limit), rope.log_n(positions_BT, limit)


def whole_towers(params: Params, rest: Params) -> tuple[str, ...]:
    """Towers all of whose blocks are among these parameters, and none among the rest."""
    return tuple(
        name
        for name, tower in params.items()
        if "blocks" in tower and "blocks" not in rest.get(name, {})
    )


def blocks_apart(params: Params, *, towers: tuple[str, ...] = ("decoder",)) -> Params:
    """The same parameters for many steps: the blocks of these towers an array a layer."""
    return {
        name: tower | {"blocks": take_apart(tower["blocks"])}
        if name in towers and not is_apart(tower)
        else tower
        for name, tower in params.items()
    }


def blocks_together(params: Params) -> Params:
    """The same parameters as they are stored: blocks in stacks."""
    return {
        name: tower | {"blocks": put_together(tower["blocks"])} if is_apart(tower) else tower
        for name, tower in params.items()
    }


def decode(
    config: ModelConfig,
    params: Params,
    x_BTD: Float[Array, "B T D"],
    visibility: Visibility,
    *,
    alpha_B: Float[Array, "B"],
    q_scale_BT11: Float[Array, "B T 1 1"],
    cache: Cache | None = None,
    slot: Int32[Array, ""] | int = 0,
) -> tuple[Float[Array, "B T D"], Cache | None]:
    """The decoder over embedded input, with or without a cache: (hidden after the last norm, the
    cache).

    Args:
      params: as they are, or with `blocks_apart`.
    """
    hidden_BTD, cache, _ = QwenVL(config).apply(
        {"params": params},
        x_BTD,
        visibility,
        alpha_B,
        q_scale_BT11,
        cache,
        slot,
        method=QwenVL.run,
    )
    return hidden_BTD, cache


def hidden(
    config: ModelConfig, params: Params, batch: Batch, *, mode: Mode = "train"
) -> Float[Array, "B T D"]:
    """The decoder's output after its last norm, in the compute dtype."""
    return hidden_states(config, params, batch, mode=mode, keep=False)[0]


def hidden_states(
    config: ModelConfig, params: Params, batch: Batch, *, mode: Mode, keep: bool = True
) -> tuple[Float[Array, "B T D"], Float[Array, "L B T D"] | None]:
    """(output after the last norm, the input of every block if kept)."""
    module = QwenVL(config, keep_hidden=keep)
    variables = {"params": params}
    x_BTD = module.apply(variables, batch.tokens, batch.images, method=QwenVL.embed)
    segments, positions = jnp.asarray(batch.segments), jnp.asarray(batch.positions)
    length_B = jnp.max(positions, axis=1) + 1
    alpha_B, q_scale = long_context(config, positions, length_B, mode)
    visibility = Visibility(segments, positions, segments, positions)
    out_BTD, _, entries = module.apply(
        variables, x_BTD, visibility, alpha_B, q_scale, method=QwenVL.run
    )
    return out_BTD, entries


def logits(
    config: ModelConfig, params: Params, hidden_BTD: Float[Array, "B T D"]
) -> Float[Array, "B T V"]:
    """Scores of the next token, float32."""
    return QwenVL(config).apply({"params": params}, hidden_BTD, method=QwenVL.logits)
