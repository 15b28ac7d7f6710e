"""The adapters of the ablations against NumPy, and what positions are for."""

import dataclasses
import math

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from qwenvl_jax import trees
from qwenvl_jax.checkpoint.names import parameter_shapes
from qwenvl_jax.model import adapter
from qwenvl_jax.parallel import rules
from qwenvl_jax.parallel.mesh import MeshConfig, make_mesh
from tests.batches import toy_model
from tests.weights import random_weights


def model(**changes):
    """4 x 4 patches of width 24 to 2 x 2 features of width 32."""
    toy = toy_model()
    return dataclasses.replace(
        toy,
        vit=dataclasses.replace(toy.vit, image_size=32),
        adapter=dataclasses.replace(toy.adapter, **changes),
    )


def features(config, params, x_MPD) -> np.ndarray:
    return np.asarray(adapter.Adapter(config).apply({"params": params["adapter"]}, x_MPD))


def norm(x, p):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * p["scale"] + p["bias"]


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def cell_of(x_MPD, row: int, column: int) -> np.ndarray:
    """The four patches of a 2 x 2 cell, named one by one."""
    return np.stack(
        [x_MPD[:, 4 * (2 * row + y) + 2 * column + x] for y in (0, 1) for x in (0, 1)], axis=1
    )


@pytest.mark.parametrize("kind", ["mlp", "pool"])
def test_an_adapter_of_cells_by_hand(kind):
    """Patches of another cell, or in another order, would still train, only worse."""
    config = model(kind=kind)
    params = random_weights(config)
    x_MPD = np.random.default_rng(1).normal(size=(3, 16, 24)).astype(np.float32)
    got = features(config, params, x_MPD)

    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["adapter"])
    for q, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        cell = norm(cell_of(x_MPD.astype(np.float64), row, column), p["ln_in"])
        if kind == "mlp":
            up, down = p["mlp"]["up"], p["mlp"]["down"]
            hidden = gelu(cell.reshape(3, 4 * 24) @ up["kernel"] + up["bias"])
            out = hidden @ down["kernel"] + down["bias"]
        else:
            out = cell.mean(1) @ p["in_proj"]["kernel"]
        want = norm(out, p["ln_post"]) @ p["proj"]["kernel"]
        np.testing.assert_allclose(got[:, q], want, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(("positions", "moves"), [("2d", True), ("none", False)])
def test_without_positions_the_order_of_patches_is_lost(positions, moves):
    """Attention is blind to order: a table that is still added somewhere would show."""
    config = model(positions=positions)
    params = random_weights(config)
    x_MPD = np.random.default_rng(1).normal(size=(2, 16, 24)).astype(np.float32)
    shuffled = x_MPD[:, np.random.default_rng(2).permutation(16)]
    moved = np.abs(features(config, params, x_MPD) - features(config, params, shuffled)).max()
    assert (moved > 1e-3) == moves and (moved < 1e-5) != moves


def test_kinds_have_places_on_a_mesh():
    """A parameter without a rule, or replicated by one, would stop or bloat a released run."""
    mesh = make_mesh(MeshConfig(2, 2, 2), jax.devices())
    for kind, expected in {
        "mlp": {"mlp/up/kernel": P("fsdp", "tensor"), "mlp/down/kernel": P("tensor", "fsdp")},
        "pool": {"in_proj/kernel": P(None, "fsdp")},
    }.items():
        shapes = parameter_shapes(model(kind=kind))
        placed = trees.flatten(rules.parameter_shardings(mesh, shapes))
        for path, spec in expected.items():
            assert placed[f"adapter/{path}"].spec == spec
        assert "adapter/query" not in placed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "conv"}, "config.model.adapter.kind must be one of 'cross_attention', 'mlp'"),
        ({"positions": "1d"}, "config.model.adapter.positions must be one of '2d', 'none'"),
        ({"kind": "pool", "positions": "none"}, "kind 'pool' adds no positions"),
        ({"kind": "mlp", "num_queries": 9}, "num_queries=9.*'mlp' takes whole cells.*4 patches"),
    ],
)
def test_what_an_adapter_cannot_be(changes, words):
    page = dataclasses.asdict(model())
    page["adapter"] |= changes
    with pytest.raises(ValueError, match=words):
        type(model()).from_dict(page)


def test_cells_of_a_larger_image():
    """The config's image tiles; one given at run time may not."""
    config = model(kind="pool")
    params = random_weights(config)
    assert features(config, params, np.zeros((1, 64, 24), np.float32)).shape == (1, 4, 32)
    with pytest.raises(ValueError, match="2 x 2 cells do not tile 3 x 3 patches"):
        features(config, params, np.zeros((1, 9, 24), np.float32))
