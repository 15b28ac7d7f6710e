"""Another image size or number of queries: both tables become what the resampling kernel says.

The reference is a direct sum over PyTorch's documented bicubic kernel, entry by entry.
"""

import dataclasses
import math

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import convert, imported, names
from qwenvl_jax.checkpoint.load import load_parameters
from qwenvl_jax.checkpoint.manager import Checkpoints
from qwenvl_jax.checkpoint.policy import CheckpointConfig
from qwenvl_jax.parallel import rules
from qwenvl_jax.parallel.mesh import MeshConfig, make_mesh
from tests.batches import toy_model
from tests.weights import random_weights

STORED = toy_model()  # 2 x 2 positions, 4 queries


def kernel(x):
    x, a = abs(x), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def resampled(table, side):
    """Every output point as the weighted sum of its 16 neighbours, edges repeated."""
    source = math.isqrt(len(table))
    out = np.zeros((side, side, table.shape[1]))
    for row in range(side):
        for column in range(side):
            y, x = ((n + 0.5) * source / side - 0.5 for n in (row, column))
            for v in range(math.floor(y) - 1, math.floor(y) + 3):
                for u in range(math.floor(x) - 1, math.floor(x) + 3):
                    inside = [min(max(n, 0), source - 1) for n in (v, u)]
                    weight = kernel(y - v) * kernel(x - u)
                    out[row, column] += weight * table[inside[0] * source + inside[1]]
    return out.reshape(side * side, -1)


def wanted(*, grid=2, queries=4):
    return dataclasses.replace(
        STORED,
        vit=dataclasses.replace(STORED.vit, position_grid=grid),
        adapter=dataclasses.replace(STORED.adapter, num_queries=queries),
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The same weights as a PyTorch directory and as a work directory."""
    folder, params = tmp_path_factory.mktemp("resized"), random_weights(STORED)
    convert.save(params, folder / "torch", config=STORED, dtype="float32")
    checkpoints = Checkpoints(folder / "work", CheckpointConfig(), {})
    params_on = jax.tree.map(jax.numpy.asarray, params)
    counts = {"steps": np.zeros((), np.int32)}
    data = np.zeros((0, 0), np.int64)
    checkpoints.save(0, params=params_on, opt_state=counts, frozen={}, data=data)
    checkpoints.close()
    return folder, params


def load(folder, kind, config, how):
    shapes = names.parameter_shapes(config)
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    shardings = rules.parameter_shardings(mesh, shapes)
    if kind == "work":
        loaded = load_parameters(folder / kind, shapes, shardings, resize_queries=how)
    else:
        towers = dict.fromkeys(imported.TOWERS, folder / kind)
        loaded = imported.load_towers(config, towers, shardings=shardings, resize_queries=how)
    flat, where = trees.flatten(loaded), trees.flatten(shardings)
    assert all(leaf.sharding == where[path] for path, leaf in flat.items())
    return flat


@pytest.mark.parametrize("kind", ["torch", "work"])
@pytest.mark.parametrize("how", ["interpolate", "random"])
def test_tables_of_another_size_are_resized_and_the_rest_is_kept(sources, kind, how, caplog):
    """A run at 448 pixels or with 16 queries must start from what was learnt, and say so."""
    caplog.set_level("INFO", logger="absl")
    folder, params = sources
    flat, want = load(folder, kind, wanted(grid=4, queries=16), how), trees.flatten(params)
    table = resampled(want["vit/positions"], 4)
    np.testing.assert_allclose(flat["vit/positions"], table, atol=1e-6)
    assert "vit/positions" in caplog.text and "(4, 24) -> (16, 24), resampled" in caplog.text
    if how == "interpolate":
        table = resampled(want["adapter/query"], 4)
        np.testing.assert_allclose(flat["adapter/query"], table, atol=1e-6)
        assert "(4, 32) -> (16, 32), resampled" in caplog.text
    else:
        assert "adapter/query" not in flat  # the initialiser makes what is not given
        assert "(4, 32) -> (16, 32), made at random" in caplog.text
    for path in set(flat) - {"vit/positions", "adapter/query"}:
        np.testing.assert_array_equal(flat[path], want[path], err_msg=path)


@pytest.mark.parametrize("kind", ["torch", "work"])
def test_other_queries_are_refused_by_default(sources, kind):
    """A typing error in the number of queries must not throw learnt ones away."""
    with pytest.raises(ValueError, match=r"mis-shaped .*query: expected \(16, 32\), got \(4, 32\)"):
        load(sources[0], kind, wanted(queries=16), "refuse")


def test_openclip_s_class_token_is_no_position(sources, tmp_path):
    """Its table has a row more than a square: it must be dropped before resampling."""
    vit = {"vit": sources[1]["vit"]}
    tensors = {n: np.array(x, order="C") for n, x in names.export(vit, names.OPENCLIP)}
    tensors["visual.positional_embedding"][0] = 77.0
    save_file(tensors, tmp_path / "open_clip_model.safetensors")
    config = wanted(grid=3)
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shardings = jax.tree.map(lambda _: here, names.parameter_shapes(config))
    loaded = imported.load_towers(config, {"vit": tmp_path}, shardings=shardings)
    table = resampled(sources[1]["vit"]["positions"], 3)
    np.testing.assert_allclose(loaded["vit"]["positions"], table, atol=1e-6)
