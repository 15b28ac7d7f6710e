"""Released names and our paths."""

import json
import pathlib

import numpy as np
import pytest
from safetensors import safe_open

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import names
from qwenvl_jax.checkpoint.layouts import FLAT, LINEAR
from qwenvl_jax.checkpoint.released_config import model_config
from qwenvl_jax.model.config import ModelConfig
from tests.batches import toy_model
from tests.weights import random_weights

REFERENCE = pathlib.Path(__file__).parents[1] / "reference"


def test_released_model_has_the_released_tensors():
    """A wrong width, a missing bias or a forgotten tensor changes one of the published counts."""
    shapes = names.released_shapes(ModelConfig.released())
    sizes = {name: int(np.prod(leaf.shape)) for name, leaf in shapes.items()}
    assert len(sizes) == 853
    assert sum(sizes.values()) == 9_656_935_168
    parts = {"transformer.visual.attn_pool.": 0, "transformer.visual.": 0, "": 0}
    for name, size in sizes.items():
        parts[next(prefix for prefix in parts if name.startswith(prefix))] += size
    assert parts["transformer.visual.attn_pool."] == 76_054_528
    assert parts["transformer.visual."] == 1_842_770_688 + 16_785_408
    assert parts[""] == 7_721_324_544
    assert shapes["transformer.h.31.mlp.w2.weight"].shape == (11008, 4096)
    assert shapes["transformer.visual.conv1.weight"].shape == (1664, 3, 14, 14)


def test_every_tensor_of_the_reference_returns_unchanged():
    """A transform whose inverse is not its inverse, or a tensor read from the wrong name."""
    with safe_open(REFERENCE / "model.safetensors", "np") as file:
        released = {name: np.asarray(file.get_tensor(name), np.float32) for name in file.keys()}
    config = model_config(json.loads((REFERENCE / "config.json").read_text()), dtype="float32")
    out = names.export(names.from_released(config, released.__getitem__))
    assert set(out) == set(released)
    for name, tensor in released.items():
        # The fixed positions are computed, not copied.
        tolerance = 1e-6 if name == names.POSITIONS else 0
        np.testing.assert_allclose(out[name], tensor, atol=tolerance, err_msg=name)


def test_layers_of_all_sizes_come_back():
    """With all sizes different, a swapped pair of dims cannot hide behind equal widths."""
    config = toy_model()
    params = random_weights(config)
    released = {name: np.asarray(x) for name, x in names.export(params).items()}
    back = trees.flatten(names.from_released(config, released.__getitem__))
    for path, leaf in trees.flatten(params).items():
        np.testing.assert_array_equal(back[path], leaf, err_msg=path)


def test_fused_projection_of_the_vision_tower_is_laid_out_per_head():
    """Reading (N, 3, H) as OpenCLIP's (3, N, H) mixes heads with q, k, v; only entries can tell."""
    config = toy_model()
    params = random_weights(config)
    weight = names.export(params)["transformer.visual.transformer.resblocks.1.attn.in_proj.weight"]
    kernel = params["vit"]["blocks"]["attn"]["qkv"]["kernel"][1]  # (D, 3, N, H)
    head, width = 2, config.vit.head_width
    for part in range(3):
        start = (head * 3 + part) * width
        np.testing.assert_array_equal(weight[start : start + width], kernel[:, part, head].T)


def test_another_file_is_another_tuple_of_rows():
    """The rows alone must suffice to read OpenCLIP's names and its (3, N, H) projection."""
    config = toy_model()
    layouts = {"vit/blocks/attn/qkv/kernel": LINEAR, "vit/blocks/attn/qkv/bias": FLAT}
    rows = tuple(
        row._replace(
            released=row.released.replace("transformer.visual", "visual", 1),
            layout=layouts.get(row.ours, row.layout),
        )
        for row in names.VISION
    )
    params = random_weights(config)
    released = names.export({"vit": params["vit"]}, rows)
    kernel = params["vit"]["blocks"]["attn"]["qkv"]["kernel"][0]
    weight = released["visual.transformer.resblocks.0.attn.in_proj.weight"]
    np.testing.assert_array_equal(weight, kernel.reshape(kernel.shape[0], -1).T)
    back = names.from_released(config, released.__getitem__, rows=rows)
    assert set(back) == {"vit"}
    np.testing.assert_array_equal(back["vit"]["blocks"]["attn"]["qkv"]["kernel"][0], kernel)


def test_errors_name_the_tensor():
    """A user with the wrong file must learn which tensor does not fit."""
    config = toy_model()
    shapes = names.released_shapes(config)
    released = {name: np.zeros(leaf.shape, np.float32) for name, leaf in shapes.items()}
    name = "transformer.h.1.mlp.w1.weight"
    with pytest.raises(ValueError, match=name):
        missing = {key: value for key, value in released.items() if key != name}
        names.from_released(config, missing.__getitem__)
    with pytest.raises(ValueError, match=rf"{name}.*\(3, 4\)"):
        names.from_released(config, (released | {name: np.zeros((3, 4))}).__getitem__)
    with pytest.raises(ValueError, match="visual.width"):
        values = json.loads((REFERENCE / "config.json").read_text())
        del values["visual"]["width"]
        model_config(values)
