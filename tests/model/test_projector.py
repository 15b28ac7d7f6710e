"""If these break, an ablation of the adapter compares something else than it says."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.plan.analytic import hardware_flops
from qwenvl_jax import trees
from qwenvl_jax.checkpoint.imported import check_tower
from qwenvl_jax.checkpoint.released_config import released_config
from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.adapter import Adapter
from qwenvl_jax.model.config import AdapterConfig
from qwenvl_jax.model.projector import Projector, cells
from qwenvl_jax.parallel import rules
from qwenvl_jax.train.flops import adapter_flops
from tests.batches import toy_model

KINDS = ("mlp", "pooling")


def model_of(kind, queries=4, image_size=32, **changes):
    toy = toy_model()
    adapter = AdapterConfig(queries, 4, kind=kind, **changes)
    vit = dataclasses.replace(toy.vit, image_size=image_size)
    return dataclasses.replace(toy, adapter=adapter, vit=vit)


def test_cells_are_squares_of_the_image():
    """A wrong order of axes mixes far patches into one query, which no shape tells."""
    x = np.arange(2 * 36, dtype=np.float32).reshape(2, 36, 1)
    found = np.asarray(cells(jnp.asarray(x), 3))
    for image in range(2):
        square = x[image, :, 0].reshape(6, 6)
        for cell in range(9):
            row, column = 2 * (cell // 3), 2 * (cell % 3)
            expected = square[row : row + 2, column : column + 2].ravel()
            np.testing.assert_array_equal(found[image, cell, :, 0], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_query_is_its_cell(kind):
    """By hand in NumPy; and a patch changes the feature of its own cell alone."""
    config = model_of(kind)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 16, config.vit.width)).astype(np.float32)
    variables = Projector(config).init(jax.random.key(0), x)
    params = trees.flatten(variables["params"])
    got = np.asarray(Projector(config).apply(variables, x))[0]
    square = x[0].reshape(4, 4, -1)
    for cell in range(4):
        row, column = 2 * (cell // 2), 2 * (cell % 2)
        inside = square[row : row + 2, column : column + 2].reshape(4, -1)
        h = inside.mean(0) if kind == "pooling" else inside.ravel()
        h = (h - h.mean()) / np.sqrt(h.var() + 1e-6)
        if kind == "mlp":
            h = h @ np.asarray(params["kv_proj/kernel"])
            erf = np.vectorize(math.erf)
            h = 0.5 * h * (1 + erf(h / np.sqrt(2)))
        np.testing.assert_allclose(got[cell], h @ np.asarray(params["proj/kernel"]), atol=1e-5)
    other = x.copy()
    other[0, 3] += 1  # top right cell
    moved = np.abs(np.asarray(Projector(config).apply(variables, other))[0] - got).max(-1)
    assert (moved > 0).tolist() == [False, True, False, False]


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_have_a_place_and_a_gradient(kind):
    """A whole model with the projector is sharded, and is not one that an export could say."""
    config = model_of(kind)
    images = np.zeros((1, 32, 32, 3), np.uint8)
    params = jax.jit(lambda key: qwenvl.init(config, key))(jax.random.key(0))
    for path in trees.flatten(params):
        rules.spec_of(path)
    features = functools.partial(qwenvl.image_features, config)
    grads = jax.jit(jax.grad(lambda p: jnp.sum(features(p, images) ** 2)))(params)
    adapter = trees.flatten(grads["adapter"])
    assert adapter and all(np.abs(np.asarray(g)).max() > 0 for g in adapter.values())
    with pytest.raises(ValueError, match=f"config.model.adapter.kind='{kind}'"):
        released_config(config, dtype="float32")
    with pytest.raises(ValueError, match=f"config.model.adapter.kind='{kind}'"):
        check_tower(config, "adapter", "any")


def test_without_positions_queries_do_not_know_where():
    """Patches in another order give the same features only where no position is told."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 16, toy_model().vit.width)).astype(np.float32)
    for positions in (True, False):
        config = model_of("cross_attention", positions=positions)
        variables = Adapter(config).init(jax.random.key(0), x)
        one = Adapter(config).apply(variables, x)
        other = Adapter(config).apply(variables, x[:, ::-1])
        assert (float(jnp.abs(one - other).max()) < 1e-5) == (not positions)


@pytest.mark.parametrize("kind", ("cross_attention", *KINDS))
def test_counted_flops_are_xlas(kind):
    """XLA's count of the compiled adapter alone, which has elementwise work on top."""
    config = model_of(kind, queries=16, image_size=64)
    config = dataclasses.replace(
        config, decoder=dataclasses.replace(config.decoder, width=256, heads=4)
    )
    x = jnp.zeros((1, 64, config.vit.width))
    module = Adapter(config) if kind == "cross_attention" else Projector(config)
    variables = module.init(jax.random.key(0), x)
    compiled = jax.jit(module.apply).lower(variables, x).compile()
    counted = compiled.cost_analysis()["flops"]
    assert 0.8 < adapter_flops(config) / counted < 1.02
    sizes = dict(rows=1, length=64, images=1, head_positions=64, kernel="dense")
    assert hardware_flops(config, {"adapter"}, **sizes) > 3 * adapter_flops(config)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(kind="mlp", queries=9), "num_queries=9 of kind mlp.*3 x 3 cells.*4 x 4 patches"),
        (dict(kind="mlp", positions=False), "positions=False is for kind cross_attention"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(change, words):
    with pytest.raises(ValueError, match=f"config.model.adapter.{words}"):
        model_of(**change)
