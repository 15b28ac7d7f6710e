"""CLIP from a directory in OpenCLIP's or in Hugging Face's layout: its sizes and its parameters.

OpenCLIP: `open_clip_config.json` and `open_clip_model.safetensors`. Hugging Face: `config.json` and
`model.safetensors`. A tensor that no row reads is refused: it would be part of another network.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import clip_config
from qwenvl_jax.checkpoint.convert import Reader, place
from qwenvl_jax.checkpoint.layouts import CONVOLUTION, FLAT, LINEAR, LINEAR_FROM_HEADS, SAME
from qwenvl_jax.checkpoint.names import Row
from qwenvl_jax.checkpoint.weights import Weights, open_weights
from qwenvl_jax.model.clip import ClipConfig, parameter_shapes


def _norm(released: str, ours: str) -> tuple[Row, Row]:
    return Row(f"{released}.weight", f"{ours}/scale"), Row(f"{released}.bias", f"{ours}/bias")


def _linear(released: str, ours: str) -> tuple[Row, Row]:
    return Row(f"{released}.weight", f"{ours}/kernel", LINEAR), Row(
        f"{released}.bias", f"{ours}/bias"
    )


def _openclip_blocks(released: str, ours: str) -> tuple[Row, ...]:
    fused = [
        row
        for third, name in enumerate("qkv")
        for row in (
            Row(f"{released}.attn.in_proj_weight", f"{ours}/attn/{name}/kernel", LINEAR, third),
            Row(f"{released}.attn.in_proj_bias", f"{ours}/attn/{name}/bias", FLAT, third),
        )
    ]
    return (
        *fused,
        Row(f"{released}.attn.out_proj.weight", f"{ours}/attn/out/kernel", LINEAR_FROM_HEADS),
        Row(f"{released}.attn.out_proj.bias", f"{ours}/attn/out/bias"),
        *_norm(f"{released}.ln_1", f"{ours}/ln_1"),
        *_norm(f"{released}.ln_2", f"{ours}/ln_2"),
        *_linear(f"{released}.mlp.c_fc", f"{ours}/mlp/up"),
        *_linear(f"{released}.mlp.c_proj", f"{ours}/mlp/down"),
    )


def _huggingface_blocks(released: str, ours: str) -> tuple[Row, ...]:
    apart = [
        row
        for name in "qkv"
        for row in (
            Row(f"{released}.self_attn.{name}_proj.weight", f"{ours}/attn/{name}/kernel", LINEAR),
            Row(f"{released}.self_attn.{name}_proj.bias", f"{ours}/attn/{name}/bias", FLAT),
        )
    ]
    return (
        *apart,
        Row(f"{released}.self_attn.out_proj.weight", f"{ours}/attn/out/kernel", LINEAR_FROM_HEADS),
        Row(f"{released}.self_attn.out_proj.bias", f"{ours}/attn/out/bias"),
        *_norm(f"{released}.layer_norm1", f"{ours}/ln_1"),
        *_norm(f"{released}.layer_norm2", f"{ours}/ln_2"),
        *_linear(f"{released}.mlp.fc1", f"{ours}/mlp/up"),
        *_linear(f"{released}.mlp.fc2", f"{ours}/mlp/down"),
    )


OPENCLIP = (
    Row("visual.class_embedding", "vision/class"),
    Row("visual.conv1.weight", "vision/patch/kernel", CONVOLUTION),
    Row("visual.positional_embedding", "vision/positions"),
    *_norm("visual.ln_pre", "vision/ln_pre"),
    *_openclip_blocks("visual.transformer.resblocks.{i}", "vision/blocks"),
    *_norm("visual.ln_post", "vision/ln_post"),
    Row("visual.proj", "vision/proj/kernel", SAME),
    Row("token_embedding.weight", "text/embedding"),
    Row("positional_embedding", "text/positions"),
    *_openclip_blocks("transformer.resblocks.{i}", "text/blocks"),
    *_norm("ln_final", "text/ln_final"),
    Row("text_projection", "text/proj/kernel", SAME),
)
_HV, _HT = "vision_model", "text_model"
HUGGINGFACE = (
    Row(f"{_HV}.embeddings.class_embedding", "vision/class"),
    Row(f"{_HV}.embeddings.patch_embedding.weight", "vision/patch/kernel", CONVOLUTION),
    Row(f"{_HV}.embeddings.position_embedding.weight", "vision/positions"),
    *_norm(f"{_HV}.pre_layrnorm", "vision/ln_pre"),  # their spelling
    *_huggingface_blocks(f"{_HV}.encoder.layers.{{i}}", "vision/blocks"),
    *_norm(f"{_HV}.post_layernorm", "vision/ln_post"),
    Row("visual_projection.weight", "vision/proj/kernel", LINEAR),
    Row(f"{_HT}.embeddings.token_embedding.weight", "text/embedding"),
    Row(f"{_HT}.embeddings.position_embedding.weight", "text/positions"),
    *_huggingface_blocks(f"{_HT}.encoder.layers.{{i}}", "text/blocks"),
    *_norm(f"{_HT}.final_layer_norm", "text/ln_final"),
    Row("text_projection.weight", "text/proj/kernel", LINEAR),
)
# What training alone uses, and counters that older files hold.
_UNUSED = re.compile(r"logit_scale|logit_bias|attn_mask|(text|vision)_model\..*position_ids")


def load_clip(folder: str | Path, *, dtype: str = "float32") -> tuple[ClipConfig, trees.Tree]:
    """Read a directory: the config and the float32 parameters, on the first device.

    Args:
      dtype: of activations and matmuls.

    Raises:
      ValueError: a file, a setting or a tensor is missing, unknown or of another shape.
    """
    folder = Path(folder)
    weights = open_weights(folder)
    # Many folders hold both config files: the tensors say whose layout it is.
    openclip = any(name.startswith("visual.") for name in weights.names)
    rows = OPENCLIP if openclip else HUGGINGFACE
    name = clip_config.OPENCLIP if openclip else clip_config.HUGGINGFACE
    config = clip_config.read_config(folder / name, dtype=dtype)
    shapes = trees.flatten(parameter_shapes(config))
    assert {row.ours for row in rows} == set(shapes), "every parameter has one row"
    _check(weights, rows, shapes)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    flat = {
        row.ours: place(Reader(weights, row, shapes[row.ours].shape, np.float32), device)
        for row in rows
    }
    return config, trees.unflatten(flat)


def _check(weights: Weights, rows: tuple[Row, ...], shapes: Mapping[str, Any]) -> None:
    """Every tensor that the rows name is there with its number of entries, and nothing else is."""
    expected: dict[str, int] = {}
    for row in rows:
        shape = shapes[row.ours].shape
        size = math.prod(shape) * (1 if row.third is None else 3)
        if "{i}" in row.released:
            layers = {row.released.format(i=i): size // shape[0] for i in range(shape[0])}
            expected |= layers
        else:
            expected[row.released] = size
    held = {name for name in weights.names if not _UNUSED.fullmatch(name)}
    for title, names in (("missing", expected.keys() - held), ("unknown", held - expected.keys())):
        if names:
            raise ValueError(f"weights {weights.path}: {title}: {', '.join(sorted(names)[:5])}")
    for name, size in expected.items():
        if math.prod(weights.shape(name)) != size:
            raise ValueError(
                f"weights {weights.path}: tensor {name!r} has shape {weights.shape(name)},"
                f" expected {size} entries by the config"
            )
