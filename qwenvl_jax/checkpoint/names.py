"""Released tensor names and our paths: ONE table, read in both directions.

    transformer.h.3.mlp.w2.weight (F, D)  <->  decoder/blocks/mlp/gate/kernel (L, D, F), layer 3

A row says where a tensor lives on either side and how its entries are arranged. `{i}` is the layer,
stacked on our leading axis. Three rows may share a released name: each takes one third of its rows
(the adapter's fused projection). Another file of the same towers is another tuple of rows:
Qwen-7B's is DECODER, OpenCLIP's is made from VISION.
"""

import functools
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
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
    WITHOUT_FIRST,
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

# OpenCLIP's file: other names for the same tower, q, k, v above the heads, and a class token.
_OTHER_LAYOUTS = {
    "vit/blocks/attn/qkv/kernel": LINEAR,
    "vit/blocks/attn/qkv/bias": FLAT,
    "vit/positions": WITHOUT_FIRST,
}
OPENCLIP = tuple(
    Row(
        row.released.replace(f"{_V}.", "visual.").replace("attn.in_proj.", "attn.in_proj_"),
        row.ours,
        _OTHER_LAYOUTS.get(row.ours, row.layout),
    )
    for row in VISION
)
# Tensors that files hold and this model does without: fixed tables, OpenCLIP's class token, its
# last norm and projection, and its text tower.
DROPPED = (
    re.escape(POSITIONS),
    r"transformer\.(h\.\d+\.attn\.)?rotary_emb\.inv_freq",
    r"visual\.(class_embedding|proj|ln_post\.(weight|bias))",
    r"transformer\.resblocks\..*|(token|positional)_embedding(\.weight)?|ln_final\..*",
    r"text_projection(\.weight)?|logit_scale|logit_bias|attn_mask",
)


def rows_in(held: Iterable[str], towers: Collection[str]) -> tuple[Row, ...]:
    """The rows that read `towers` (of vit, adapter, decoder) from a file that holds these names.

    OpenCLIP's vision tower and a whole model's are told apart by their names.
    """
    openclip = any(name.startswith("visual.") for name in held)
    rows = OPENCLIP + ADAPTER + DECODER if openclip else TABLE
    return tuple(row for row in rows if row.ours.split("/")[0] in towers)


def export(params: trees.Tree, rows: Sequence[Row] = TABLE) -> Iterator[tuple[str, Any]]:
    """Our parameters (or gradients) by released name; with all rows also the fixed positions.

    One tensor is made at a time. A leaf may also be what is read later: a function that is called
    when its tensor is asked for, or a `stored.Leaf`, which its layer, its transpose and itself
    as a tensor are too, as far as the layout allows.

    Raises:
      ValueError: a parameter has no row.
    """
    flat = trees.flatten(params)
    unknown = sorted(set(flat) - {row.ours for row in rows})
    if unknown:
        raise ValueError(f"export: no released name for {unknown[0]!r} ({len(unknown)} such)")
    for released, group in itertools.groupby(rows, key=lambda row: row.released):
        group = tuple(group)
        leaves = [flat[row.ours] for row in group]
        if "{i}" in released:
            (row,), (leaf,) = group, leaves
            for i in range(leaf.shape[0]):
                yield released.format(i=i), row.layout.save(leaf[i])
        else:
            parts = [row.layout.save(_value(leaf)) for row, leaf in zip(group, leaves)]
            yield released, parts[0] if len(parts) == 1 else _concatenate(parts)
    if tuple(rows) == TABLE:
        queries, width = flat["adapter/query"].shape
        yield POSITIONS, posemb.sincos_2d(round(queries**0.5), width)


def _concatenate(parts: list) -> Any:
    return (np if isinstance(parts[0], np.ndarray) else jnp).concatenate(parts)


def _value(leaf: Any) -> Any:
    return leaf() if callable(leaf) else leaf


def parameter_shapes(config: ModelConfig) -> trees.Tree:
    """Our parameters as ShapeDtypeStructs."""
    return trees.unflatten(_parameter_shapes(config))


@functools.cache  # the model is traced for it
def _parameter_shapes(config: ModelConfig) -> dict[str, jax.ShapeDtypeStruct]:
    return trees.flatten(jax.eval_shape(lambda: qwenvl.init(config, jax.random.key(0))))


def released_shapes(
    config: ModelConfig, rows: Sequence[Row] = TABLE
) -> dict[str, jax.ShapeDtypeStruct]:
    """Every tensor of a file in the order of `export`; nothing is allocated."""
    flat = trees.flatten(parameter_shapes(config))
    tree = trees.unflatten({row.ours: flat[row.ours] for row in rows})
    order: list[str] = []

    def trace(params: trees.Tree) -> dict[str, Any]:
        out = dict(export(params, rows))
        order.extend(out)  # what comes back from `eval_shape` is sorted
        return out

    shapes = jax.eval_shape(trace, tree)
    return {name: shapes[name] for name in order}


def is_ignored(name: str, rows: Sequence[Row]) -> bool:
    """Whether a file may hold this tensor beside those that `rows` read: dropped ones and those of
    the whole model's other parts.
    """
    others = {re.escape(row.released).replace(r"\{i\}", r"\d+") for row in set(TABLE) - set(rows)}
    read = {re.escape(row.released).replace(r"\{i\}", r"\d+") for row in rows}
    return any(re.fullmatch(pattern, name) for pattern in (*DROPPED, *(others - read)))
