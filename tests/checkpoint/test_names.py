"""Released names and our paths."""

import json
import pathlib

import numpy as np
import pytest

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import names
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


def test_fused_projection_of_the_vision_tower_is_laid_out_per_head():
    """Reading (N, 3, H) as OpenCLIP's (3, N, H) mixes heads with q, k, v; only entries can tell."""
    config = toy_model()
    params = random_weights(config)
    weight = dict(names.export(params))[
        "transformer.visual.transformer.resblocks.1.attn.in_proj.weight"
    ]
    kernel = params["vit"]["blocks"]["attn"]["qkv"]["kernel"][1]  # (D, 3, N, H)
    head, width = 2, config.vit.head_width
    for part in range(3):
        start = (head * 3 + part) * width
        np.testing.assert_array_equal(weight[start : start + width], kernel[:, part, head].T)


def test_openclip_lays_the_fused_projection_out_above_the_heads():
    """Read per head, q, k, v and heads would be mixed; only entries can tell."""
    config = toy_model()
    params = random_weights(config)
    released = dict(names.export({"vit": params["vit"]}, names.OPENCLIP))
    kernel = params["vit"]["blocks"]["attn"]["qkv"]["kernel"][0]
    weight = released["visual.transformer.resblocks.0.attn.in_proj_weight"]
    np.testing.assert_array_equal(weight, kernel.reshape(kernel.shape[0], -1).T)
    assert released["visual.positional_embedding"].shape == (2 * 2 + 1, 24)


def test_what_is_dropped_is_a_known_name():
    """A text tower may pass unread; a block the config does not know must not."""
    assert names.is_ignored("visual.class_embedding", names.OPENCLIP)
    assert names.is_ignored("transformer.resblocks.3.ln_1.weight", names.OPENCLIP)
    assert names.is_ignored("transformer.visual.conv1.weight", names.DECODER)
    assert not names.is_ignored("transformer.h.99.ln_1.weight", names.DECODER)
    assert not names.is_ignored("visual.transformer.resblocks.99.ln_1.weight", names.OPENCLIP)
    assert not names.is_ignored("visual.transformer.resblocks.0.ls_1.gamma", names.OPENCLIP)


def test_one_tensor_exists_at_a_time():
    """A dict of all tensors would hold a second model beside the first."""
    config = toy_model()
    asked = []

    def leaf(path, x):
        return lambda: asked.append(path) or x

    tensors = names.export(trees.map_with_path(leaf, random_weights(config)))
    next(tensors)
    assert asked == ["vit/patch/kernel"]


def test_a_missing_config_key_is_named():
    values = json.loads((REFERENCE / "config.json").read_text())
    del values["visual"]["width"]
    with pytest.raises(ValueError, match="visual.width"):
        model_config(values)
