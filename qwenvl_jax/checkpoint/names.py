"""Released tensor names and our paths: ONE table, read in both directions.

    transformer.h.3.mlp.w2.weight (F, D)  <->  decoder/blocks/mlp/gate/kernel (L, D, F), layer 3

A row says where a tensor lives on either side and how its entries are arranged. `{i}` is the layer,
stacked on our leading axis. Three rows may share a released name: each takes one third of its rows
(the adapter's fused projection). Another file of the same towers (OpenCLIP's, Qwen-7B's) is another
tuple of rows, made from these by `_replace`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qwenvl_jax import trees
from qwenvl_jax.checkpoint.layouts import (
    CONVOLUTION,
    FLAT,
    LINEAR,
    LINEAR_FROM_HEADS,
    PER_HEAD,
    PER_HEAD_BIAS,
    SAME,
    Layout,
)
from qwenvl_jax.model import posemb, qwenvl
from qwenvl_jax.model.config import ModelConfig


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


def export(params: trees.Tree, rows: Sequence[Row] = TABLE) -> dict[str, Any]:
    """Our parameters (or gradients) by released name; with all rows also the fixed positions.

    Raises:
      ValueError: a parameter has no row.
    """
    flat = trees.flatten(params)
    unknown = sorted(set(flat) - {row.ours for row in rows})
    if unknown:
        raise ValueError(f"export: no released name for {unknown[0]!r} ({len(unknown)} such)")
    parts: dict[str, list] = {}
    for row in rows:
        leaf = flat[row.ours]
        layers = range(leaf.shape[0]) if "{i}" in row.released else [None]
        for i in layers:
            name = row.released if i is None else row.released.format(i=i)
            parts.setdefault(name, []).append(row.layout.save(leaf if i is None else leaf[i]))
    out = {name: p[0] if len(p) == 1 else jnp.concatenate(p) for name, p in parts.items()}
    if rows is TABLE:
        queries, width = flat["adapter/query"].shape
        out[POSITIONS] = jnp.asarray(posemb.sincos_2d(round(queries**0.5), width))
    return out


def parameter_shapes(config: ModelConfig) -> trees.Tree:
    """Our parameters as ShapeDtypeStructs."""
    return jax.eval_shape(lambda: qwenvl.init(config, jax.random.key(0)))


def released_shapes(
    config: ModelConfig, rows: Sequence[Row] = TABLE
) -> dict[str, jax.ShapeDtypeStruct]:
    """Every tensor of a released file for this configuration; nothing is allocated."""
    flat = trees.flatten(parameter_shapes(config))
    tree = trees.unflatten({row.ours: flat[row.ours] for row in rows})
    return jax.eval_shape(lambda params: export(params, rows), tree)


def from_released(
    config: ModelConfig,
    get_tensor: Callable[[str], np.ndarray],
    *,
    rows: Sequence[Row] = TABLE,
    dtype: Any = np.float32,
) -> trees.Tree:
    """Our parameters from a released file, on the host.

    Args:
      get_tensor: name -> array; KeyError where there is none.
      rows: which part to read; the default is the whole model.

    Raises:
      ValueError: a tensor is missing or has another shape; names it.
    """
    ours, released = trees.flatten(parameter_shapes(config)), released_shapes(config, rows)

    def fetch(name: str, third: int | None) -> np.ndarray:
        try:
            tensor = np.asarray(get_tensor(name))
        except KeyError as error:
            raise ValueError(f"weights: tensor {name!r} is missing") from error
        if tensor.shape != released[name].shape:
            raise ValueError(
                f"weights: tensor {name!r} is {tensor.shape}, the configuration asks for"
                f" {released[name].shape}"
            )
        return tensor if third is None else np.split(tensor, 3)[third]

    def read(row: Row) -> np.ndarray:
        shape = ours[row.ours].shape
        if "{i}" not in row.released:
            return np.ascontiguousarray(
                row.layout.load(fetch(row.released, row.third), shape), dtype
            )
        stacked = np.empty(shape, dtype)  # filled layer by layer: never two copies of a stack
        for i in range(shape[0]):
            tensor = fetch(row.released.format(i=i), row.third)
            stacked[i] = row.layout.load(tensor, shape[1:])
        return stacked

    return trees.unflatten({row.ours: read(row) for row in rows})
