"""Parameters put together from PyTorch directories, the rest at random, in the mesh's shards."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from absl import logging

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import convert, names, resized
from qwenvl_jax.checkpoint.released_config import require_released_adapter
from qwenvl_jax.checkpoint.resized import ResizeQueries
from qwenvl_jax.checkpoint.source_config import open_source, require_same
from qwenvl_jax.checkpoint.weights import Weights, open_weights
from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.config import ModelConfig

TOWERS = ("vit", "adapter", "decoder")


def check_tower(
    config: ModelConfig, tower: str, path: str | Path, *, resize_queries: ResizeQueries = "refuse"
) -> None:
    """Whether a directory or file holds a tower that fits, or can be resized; nothing is read.

    Raises:
      ValueError: it is missing or damaged, or lists every tensor that does not fit.
    """
    weights, rows, stored = _open(config, tower, path, resize_queries)
    convert.check(stored, weights, rows=rows)


def load_towers(
    config: ModelConfig,
    sources: Mapping[str, str | Path],
    *,
    shardings: trees.Tree,
    resize_queries: ResizeQueries = "refuse",
    verify: bool = True,
) -> trees.Tree:
    """Towers straight into their shards, in their files' dtypes.

    Args:
      sources: tower (`vit`, `adapter`, `decoder`) -> directory or file.
      shardings: of all parameters.
      resize_queries: what becomes of another number of queries; `random` leaves them out.
      verify: compare files with the manifest of an export first.

    Raises:
      ValueError: a source that is missing, damaged or does not fit; names file and tensors.
    """
    if verify:
        verify_sources(sources)
    given: trees.Tree = {}
    wanted = names.parameter_shapes(config)
    for tower, path in sources.items():
        weights, rows, stored = _open(config, tower, path, resize_queries)
        where = resized.read_shardings(wanted, names.parameter_shapes(stored), shardings)
        loaded = convert.load(stored, weights, rows=rows, shardings=where)
        loaded = resized.fit(
            loaded, wanted, shardings, resize_queries=resize_queries, source=str(path)
        )
        given = trees.merge(given, loaded)
        logging.info("starting weights: %s of %s", tower, path)
    return given


def verify_sources(sources: Mapping[str, str | Path]) -> None:
    """Compare the sources' files with their manifests, where they have one.

    Raises:
      ValueError: a damaged or missing file; names it.
    """
    for path in {str(path) for path in sources.values()}:
        open_weights(path).verify()


def _open(
    config: ModelConfig, tower: str, path: str | Path, resize_queries: ResizeQueries
) -> tuple[Weights, tuple[names.Row, ...], ModelConfig]:
    if tower == "adapter":
        require_released_adapter(config)
    weights, described = open_source(path, tower)
    require_same(config, tower, described)
    rows = names.rows_in(weights.names, {tower})
    return weights, rows, resized.stored_config(config, weights, rows, resize_queries)


def import_parameters(
    config: ModelConfig,
    sources: Mapping[str, str | Path],
    *,
    shardings: trees.Tree,
    seed: int,
) -> trees.Tree:
    """All parameters for `Checkpoints.save`: readers of the files, and arrays of what is made.

    A reader's parameter keeps its file's dtype and is nowhere in memory before it is written. What
    no source gives is random, float32; a position table of another size is resampled.

    Args:
      sources: what to read (`qwen_vl`, or a tower: `vit`, `decoder`) -> directory or file. A tower
        that is named goes before the same tower of the whole model.
      shardings: of all parameters, for those that are made.

    Raises:
      ValueError: a source that is missing, damaged or does not fit; names file and tensors.
    """
    wanted = names.parameter_shapes(config)
    shapes = trees.flatten(wanted)
    known: dict[str, Any] = {}
    for tower in TOWERS:
        path = sources.get(tower, sources.get("qwen_vl"))
        if not path:
            continue
        weights, rows, stored = _open(config, tower, path, "refuse")
        convert.check(stored, weights, rows=rows)
        readers = convert.readers(stored, weights, rows=rows)
        other = [name for name, read in readers.items() if read.shape != shapes[name].shape]
        where = resized.read_shardings(wanted, names.parameter_shapes(stored), shardings)
        tables = {name: convert.place(readers[name], trees.flatten(where)[name]) for name in other}
        fitted = resized.fit(
            trees.unflatten(tables), wanted, shardings, resize_queries="refuse", source=str(path)
        )
        known |= readers | trees.flatten(fitted)
        logging.info("starting weights: %s of %s", tower, path)
    rest = {path: s for path, s in trees.flatten(shardings).items() if path not in known}

    def random(seed: jax.Array) -> dict[str, jax.Array]:
        made = trees.flatten(qwenvl.init(config, jax.random.key(seed)))
        return {path: made[path] for path in rest}

    fresh = jax.jit(random, out_shardings=rest)(seed) if rest else {}
    return trees.unflatten(known | fresh)
