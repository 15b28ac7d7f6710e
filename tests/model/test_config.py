"""Sizes that cannot work are refused where they are written, by their key."""

import dataclasses

import jax
import numpy as np
import pytest

from qwenvl_jax.model import posemb, qwenvl
from qwenvl_jax.model.config import AdapterConfig, ModelConfig
from tests.batches import toy_model


@pytest.mark.parametrize(
    ("tower", "changes", "words"),
    [
        ("vit", {"heads": 5}, "config.model.vit.width=24.*heads=5"),
        ("vit", {"image_size": 20}, "config.model.vit.image_size=20.*patch_size=8"),
        ("adapter", {"num_queries": 60}, "config.model.adapter.num_queries=60.*49, 64"),
        ("decoder", {"heads": 3}, "config.model.decoder.width=32.*heads=3"),
        ("decoder", {"layers": 0}, "config.model.decoder.layers=0"),
        ("decoder", {"image_pad_id": 64}, "config.model.decoder.image_pad_id=64"),
        ("decoder", {"rope_base": 0.0}, "config.model.decoder.rope_base=0.0"),
        ("vit", {"eps": float("nan")}, "config.model.vit.eps=nan"),
    ],
)
def test_errors_name_the_key(tower, changes, words):
    """An unclear shape error in the middle of a trace is what this saves the user from."""
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(getattr(toy_model(), tower), **changes)


def test_adapter_heads_must_divide_the_decoders_width():
    """The adapter works at the decoder's width; the clash is between two towers."""
    with pytest.raises(ValueError, match="config.model.adapter"):
        dataclasses.replace(toy_model(), adapter=AdapterConfig(num_queries=4, heads=3))


@pytest.mark.parametrize(("field", "value"), [("dtype", "float16"), ("remat", "everything")])
def test_a_page_may_only_choose_what_there_is(field, value):
    """A misspelt policy must not reach the trace; and the page as it stands makes its model."""
    page = dataclasses.asdict(toy_model())
    assert ModelConfig.from_dict(page) == toy_model()
    with pytest.raises(ValueError, match=f"config.model.{field}.*{value}"):
        ModelConfig.from_dict(page | {field: value})


@pytest.mark.parametrize(("queries", "image_size"), [(1, 16), (9, 8), (16, 40)])
def test_query_count_and_image_grid_vary_freely(queries, image_size):
    """A position table tied to one grid would fail at any other."""
    config = dataclasses.replace(toy_model(), adapter=AdapterConfig(queries, 4))
    images = jax.ShapeDtypeStruct((2, image_size, image_size, 3), np.uint8)
    shapes = jax.eval_shape(lambda: qwenvl.init(config, jax.random.key(0)))
    out = jax.eval_shape(lambda p, i: qwenvl.image_features(config, p, i), shapes, images)
    assert out.shape == (2, queries, 32)


def test_sincos_start_tells_distances():
    """Positions that start at random and small say nothing of which patches are neighbours."""
    vit = dataclasses.replace(toy_model().vit, sincos_positions=True, width=48, heads=4)
    params = qwenvl.init(dataclasses.replace(toy_model(), vit=vit), jax.random.key(0))
    side = vit.position_grid
    table = np.asarray(params["vit"]["positions"]).reshape(side, side, -1)
    likeness = np.einsum("yxd,vud->yxvu", table, table)
    np.testing.assert_allclose(
        likeness[0, 0, 0, 1], likeness[1, 0, 1, 1], rtol=1e-5
    )  # a step right
    np.testing.assert_allclose(likeness[0, 0, 1, 0], likeness[0, 1, 1, 1], rtol=1e-5)  # a step down
    assert likeness[0, 0, 0, 0] > likeness[0, 0, 0, 1] > likeness[0, 0, 1, 1]


def test_bicubic_weights_by_hand():
    """Doubling a grid puts samples at 1/4 and 3/4: Keys weights with a = -0.75, worked by hand.

    With a = -0.5 (JAX's) the outer weights would be -0.0703125 and -0.0234375.
    """
    matrix = posemb.bicubic_matrix(8, 16)
    inner = [-0.10546875, 0.87890625, 0.26171875, -0.03515625]
    np.testing.assert_allclose(matrix[7, 2:6], inner[::-1] if matrix[7, 3] < 0.5 else inner)
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-6)
    # The edge repeats: all that falls off the grid counts for its border.
    np.testing.assert_allclose(matrix[0, :2], [-0.03515625 + 0.26171875 + 0.87890625, -0.10546875])
