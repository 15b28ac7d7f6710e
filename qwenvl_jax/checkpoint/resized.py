"""Starting weights whose position grid or number of queries is not the config's.

Both parameters lie on a square grid: the vision tower's positions, and the adapter's queries, whose
fixed positions do. Positions are always resampled as the model resamples them for an image of
another size (PyTorch's bicubic); queries only if the config says so.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import jax
from absl import logging

from qwenvl_jax import trees
from qwenvl_jax.checkpoint.layouts import WITHOUT_FIRST
from qwenvl_jax.checkpoint.names import Row
from qwenvl_jax.checkpoint.weights import Weights
from qwenvl_jax.model import posemb
from qwenvl_jax.model.config import ModelConfig

ResizeQueries = Literal["refuse", "interpolate", "random"]
POSITIONS, QUERIES = "vit/positions", "adapter/query"


def stored_config(
    config: ModelConfig, weights: Weights, rows: Sequence[Row], resize_queries: ResizeQueries
) -> ModelConfig:
    """`config` with the grid sides that a PyTorch directory has, where those can be resized."""
    for row in rows:
        if row.ours not in (POSITIONS, QUERIES) or row.released not in weights.names:
            continue
        count = weights.shape(row.released)[0] - (row.layout is WITHOUT_FIRST)
        if math.isqrt(count) ** 2 != count:
            continue  # not a grid: told with all that does not fit
        if row.ours == POSITIONS:
            vit = dataclasses.replace(config.vit, position_grid=math.isqrt(count))
            config = dataclasses.replace(config, vit=vit)
        elif resize_queries != "refuse":
            adapter = dataclasses.replace(config.adapter, num_queries=count)
            config = dataclasses.replace(config, adapter=adapter)
    return config


def stored_shapes(
    wanted: trees.Tree, found: trees.Tree, resize_queries: ResizeQueries
) -> trees.Tree:
    """`wanted` with the shapes that a checkpoint has, where those can be resized."""
    have = trees.flatten(found)

    def pick(path: str, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        free = path == POSITIONS or (path == QUERIES and resize_queries != "refuse")
        if not free or path not in have or not _both_grids(leaf.shape, have[path].shape):
            return leaf
        return jax.ShapeDtypeStruct(have[path].shape, leaf.dtype)

    return trees.map_with_path(pick, wanted)


def _both_grids(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a[1:] == b[1:] and all(math.isqrt(n) ** 2 == n for n in (a[0], b[0]))


def read_shardings(wanted: trees.Tree, stored: trees.Tree, shardings: trees.Tree) -> trees.Tree:
    """Where to read each parameter to: a table of another size whole, on every device."""
    want, have = trees.flatten(wanted), trees.flatten(stored)

    def place(path: str, sharding: jax.sharding.Sharding) -> jax.sharding.Sharding:
        named = isinstance(sharding, jax.sharding.NamedSharding)
        if not named or path not in have or want[path].shape == have[path].shape:
            return sharding
        return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())

    return trees.map_with_path(place, shardings)


def fit(
    loaded: trees.Tree,
    wanted: trees.Tree,
    shardings: trees.Tree,
    *,
    resize_queries: ResizeQueries,
    source: str,
) -> trees.Tree:
    """Tables of another size resampled into their shards; queries to be random are left out.

    Args:
      loaded: parameters as read, some of `wanted`.
      wanted: ShapeDtypeStructs of what the config asks for.
      shardings: theirs.
      source: what the log calls the place they come from.
    """
    want, where = trees.flatten(wanted), trees.flatten(shardings)
    flat = trees.flatten(loaded)
    for path in (POSITIONS, QUERIES):
        if path not in flat or flat[path].shape == want[path].shape:
            continue
        x_PD, shape = flat.pop(path), want[path].shape
        random = path == QUERIES and resize_queries == "random"
        if not random:
            flat[path] = _resample(x_PD, math.isqrt(shape[0]), where[path])
        done = "made at random" if random else "resampled, bicubic"
        logging.info(
            "starting weights: %s of %s: %s -> %s, %s", path, source, x_PD.shape, shape, done
        )
    return trees.unflatten(flat)


def _resample(x_PD: jax.Array, grid: int, sharding: jax.sharding.Sharding) -> jax.Array:
    resample = jax.jit(lambda x: posemb.resample(x, grid).astype(x.dtype), out_shardings=sharding)
    return resample(x_PD)
