"""Released tensor names and our paths: ONE table, read in both directions.

    transformer.h.3.mlp.w2.weight (F, D)    <->    decoder/blocks/mlp/gate/kernel (L, D, F) at layer 3

A row says where a tensor lives on either side and how its entries are laid out. `{i}` is the layer, stacked on our leading
axis. Three rows may share a released name: then each takes one third of its rows (the adapter's fused projection).
Another layout of the same model (OpenCLIP's, Qwen-7B's) is another tuple of rows, made from these by `renamed`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qwenvl_jax import trees
from qwenvl_jax.model import posemb, qwenvl
from qwenvl_jax.model.config import ModelConfig


class Layout(NamedTuple):
    """How one tensor's entries are arranged; `load` gets the shape to reach, `save` needs none."""

    load: Callable[[Any, tuple[int, ...]], Any]
    save: Callable[[Any], Any]


def _linear(input_dims: int) -> Layout:
    """torch's (out, in) <-> our (in.., out..), whose first `input_dims` dims are the input."""
    return Layout(
        lambda x, shape: x.T.reshape(shape),
        lambda x: x.reshape(math.prod(x.shape[:input_dims]), -1).T,
    )


SAME = Layout(lambda x, shape: x.reshape(shape), lambda x: x)
FLAT = Layout(lambda x, shape: x.reshape(shape), lambda x: x.reshape(-1))
LINEAR = _linear(1)
LINEAR_FROM_HEADS = _linear(2)
CONVOLUTION = Layout(
    lambda x, shape: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)
)  # (D, 3, p, p) <-> (p, p, 3, D)
# The released vision tower fuses q, k, v head by head: rows (N, 3, H). OpenCLIP's (3, N, H) is LINEAR and FLAT.
PER_HEAD = Layout(
    lambda x, shape: x.reshape(shape[2], 3, shape[3], shape[0]).transpose(3, 1, 0, 2),
    lambda x: x.transpose(2, 1, 3, 0).reshape(-1, x.shape[0]),
)
PER_HEAD_BIAS = Layout(
    lambda x, shape: x.reshape(shape[1], 3, shape[2]).transpose(1, 0, 2),
    lambda x: x.transpose(1, 0, 2).reshape(-1),
)


class Row(NamedTuple):
    released: str
    ours: str
    layout: Layout = SAME
    third: int | None = None  # of the released tensor's rows


def _norm(released: str, ours: str) -> tuple[Row, Row]:
    return Row(f"{released}.weight", f"{ours}/scale"), Row(f"{released}.bias", f"{ours}/bias")


_V, _P, _D = "transformer.visual", "transformer.visual.attn_pool", "transformer"
_VB, _DB = "transformer.visual.transformer.resblocks.{i}", "transformer.h.{i}"

VISION = (
    Row(f"{_V}.conv1.weight", "vit/patch/kernel", CONVOLUTION),
    Row(f"{_V}.positional_embedding", "vit/positions"),
    *_norm(f"{_V}.ln_pre", "vit/ln_pre"),
    *_norm(f"{_VB}.ln_1", "vit/blocks/ln_1"),
    Row(f"{_VB}.attn.in_proj.weight", "vit/blocks/attn/qkv/kernel", PER_HEAD),
    Row(f"{_VB}.attn.in_proj.bias", "vit/blocks/attn/qkv/bias", PER_HEAD_BIAS),
    Row(f"{_VB}.attn.out_proj.weight", "vit/blocks/attn/out/kernel", LINEAR_FROM_HEADS),
    Row(f"{_VB}.attn.out_proj.bias", "vit/blocks/attn/out/bias"),
    *_norm(f"{_VB}.ln_2", "vit/blocks/ln_2"),
    Row(f"{_VB}.mlp.c_fc.weight", "vit/blocks/mlp/up/kernel", LINEAR),
    Row(f"{_VB}.mlp.c_fc.bias", "vit/blocks/mlp/up/bias"),
    Row(f"{_VB}.mlp.c_proj.weight", "vit/blocks/mlp/down/kernel", LINEAR),
    Row(f"{_VB}.mlp.c_proj.bias", "vit/blocks/mlp/down/bias"),
)
ADAPTER = (
    Row(f"{_P}.query", "adapter/query"),
    Row(f"{_P}.kv_proj.weight", "adapter/kv_proj/kernel", LINEAR),
    *_norm(f"{_P}.ln_q", "adapter/ln_q"),
    *_norm(f"{_P}.ln_kv", "adapter/ln_kv"),
    Row(f"{_P}.attn.in_proj_weight", "adapter/attn/q/kernel", LINEAR, 0),
    Row(f"{_P}.attn.in_proj_weight", "adapter/attn/k/kernel", LINEAR, 1),
    Row(f"{_P}.attn.in_proj_weight", "adapter/attn/v/kernel", LINEAR, 2),
    Row(f"{_P}.attn.in_proj_bias", "adapter/attn/q/bias", FLAT, 0),
    Row(f"{_P}.attn.in_proj_bias", "adapter/attn/k/bias", FLAT, 1),
    Row(f"{_P}.attn.in_proj_bias", "adapter/attn/v/bias", FLAT, 2),
    Row(f"{_P}.attn.out_proj.weight", "adapter/attn/out/kernel", LINEAR_FROM_HEADS),
    Row(f"{_P}.attn.out_proj.bias", "adapter/attn/out/bias"),
    *_norm(f"{_V}.ln_post", "adapter/ln_post"),
    Row(f"{_V}.proj", "adapter/proj/kernel"),
)
DECODER = (
    Row(f"{_D}.wte.weight", "decoder/embedding"),
    Row(f"{_DB}.ln_1.weight", "decoder/blocks/ln_1/scale"),
    Row(f"{_DB}.attn.c_attn.weight", "decoder/blocks/attn/qkv/kernel", LINEAR),
    Row(f"{_DB}.attn.c_attn.bias", "decoder/blocks/attn/qkv/bias", FLAT),
    Row(f"{_DB}.attn.c_proj.weight", "decoder/blocks/attn/out/kernel", LINEAR_FROM_HEADS),
    Row(f"{_DB}.ln_2.weight", "decoder/blocks/ln_2/scale"),
    Row(f"{_DB}.mlp.w1.weight", "decoder/blocks/mlp/up/kernel", LINEAR),
    Row(f"{_DB}.mlp.w2.weight", "decoder/blocks/mlp/gate/kernel", LINEAR),
    Row(f"{_DB}.mlp.c_proj.weight", "decoder/blocks/mlp/down/kernel", LINEAR),
    Row(f"{_D}.ln_f.weight", "decoder/ln_f/scale"),
    Row("lm_head.weight", "decoder/head/kernel", LINEAR),
)
TABLE = VISION + ADAPTER + DECODER
POSITIONS = f"{_P}.pos_embed"  # fixed, computed by us, yet a tensor of the released file


def renamed(
    rows: Sequence[Row], old: str, new: str, layouts: Mapping[str, Layout]
) -> tuple[Row, ...]:
    """Rows for another file: the prefix `old` of released names becomes `new`; `layouts` (by our path) replace."""
    return tuple(
        dataclass_row._replace(
            released=new + dataclass_row.released.removeprefix(old),
            layout=layouts.get(dataclass_row.ours, dataclass_row.layout),
        )
        for dataclass_row in rows
    )
