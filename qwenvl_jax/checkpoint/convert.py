"""Tensors of PyTorch files -> our parameters in their shards, and back, one at a time."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import blocks, manifest, names
from qwenvl_jax.checkpoint import safetensors_writer as writer
from qwenvl_jax.checkpoint.names import Row
from qwenvl_jax.checkpoint.weights import Weights
from qwenvl_jax.model.config import ModelConfig

INDEX = "model.safetensors.index.json"
DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float32": np.dtype(np.float32)}


def check(config: ModelConfig, weights: Weights, *, rows: Sequence[Row] = names.TABLE) -> None:
    """Whether a file's tensors are those that `rows` read for this configuration.

    Raises:
      ValueError: lists every missing, unexpected and mis-shaped name with what was expected.
    """
    expected = names.released_shapes(config, rows)
    expected.pop(names.POSITIONS, None)  # computed, never read
    known = [n for n in weights.names if n in expected or not names.is_ignored(n, rows)]
    got = {name: jax.ShapeDtypeStruct(weights.shape(name), np.float32) for name in known}
    trees.check_same_shapes(expected, got, what=f"weights {weights.path}")


def load(
    config: ModelConfig,
    weights: Weights,
    *,
    rows: Sequence[Row] = names.TABLE,
    shardings: trees.Tree,
    dtype: Any = None,
) -> trees.Tree:
    """The part of our parameters that `rows` name, straight into its shards.

    A device's slice is put together from the same slices of the files; nothing else is read.

    Args:
      shardings: of those parameters, or of more.
      dtype: of every parameter; None keeps the file's.

    Raises:
      ValueError: lists every missing, unexpected and mis-shaped name with what was expected.
    """
    check(config, weights, rows=rows)
    flat = trees.flatten(shardings)
    leaves = {
        path: place(read, flat[path])
        for path, read in readers(config, weights, rows=rows, dtype=dtype).items()
    }
    return trees.unflatten(leaves)


class Reader:
    """One of our parameters in a file: its shape and dtype, and any slice of it."""

    def __init__(self, weights: Weights, row: Row, shape: tuple[int, ...], dtype: Any):
        self.shape = shape
        self._weights, self._row = weights, row
        self._layers = shape[0] if "{i}" in row.released else 0
        stored = {weights.dtype(name) for name in self._names()}
        kept = stored.pop() if len(stored) == 1 else np.dtype(np.float32)
        self.dtype = np.dtype(kept if dtype is None else dtype)
        self.ndim, self.size = len(shape), math.prod(shape)

    def _names(self) -> list[str]:
        released = self._row.released
        return [released.format(i=i) for i in range(self._layers)] if self._layers else [released]

    def __call__(self, index: tuple[slice, ...] = ()) -> np.ndarray:
        """The slice at `index` (all of it by default)."""
        index = (*index, *[slice(None)] * (len(self.shape) - len(index)))
        sizes = [len(range(*s.indices(n))) for s, n in zip(index, self.shape)]
        out = np.empty(sizes, self.dtype)
        self.fill(out, index)
        return out

    def fill(self, out: np.ndarray, index: tuple[slice, ...]) -> None:
        """Put the slice at `index`, a slice for every dim, into an array of its shape."""
        if not self._layers:
            blocks.copy(out, self._tensor(self._row.released, self.shape)[index])
            return
        for place, i in enumerate(range(*index[0].indices(self._layers))):
            tensor = self._tensor(self._row.released.format(i=i), self.shape[1:])
            blocks.copy(out[place], tensor[index[1:]])

    def _tensor(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        tensor = self._weights.read(name)
        if self._row.third is not None:
            tensor = np.split(tensor, 3)[self._row.third]
        return self._row.layout.load(tensor, shape)


def readers(
    config: ModelConfig,
    weights: Weights,
    *,
    rows: Sequence[Row] = names.TABLE,
    dtype: Any = None,
) -> dict[str, Reader]:
    """path -> what reads that parameter; nothing is read yet."""
    shapes = trees.flatten(names.parameter_shapes(config))
    return {row.ours: Reader(weights, row, shapes[row.ours].shape, dtype) for row in rows}


def place(read: Reader, sharding: jax.sharding.Sharding) -> jax.Array:
    """A parameter in its shards; a slice that several devices hold is read once."""
    slices: dict[tuple, np.ndarray] = {}

    def fetch(index: tuple[slice, ...]) -> np.ndarray:
        key = tuple((s.start, s.stop) for s in index)
        if key not in slices:
            slices[key] = read(index)
        return slices[key]

    return jax.make_array_from_callback(read.shape, sharding, fetch)


def save(
    params: trees.Tree,
    folder: str | Path,
    *,
    config: ModelConfig,
    rows: Sequence[Row] = names.TABLE,
    dtype: str = "bfloat16",
    shard_bytes: int = 5 * 10**9,
) -> dict[manifest.State, str]:
    """Write safetensors shards of at most `shard_bytes` (one tensor at least) and their index.

    Sizes are known beforehand, so a tensor is written as soon as it is made.

    Args:
      params: arrays on the host, or what `names.export` takes in their place, by path.
      dtype: of every tensor but the fixed positions, which stay float32.

    Returns:
      What `manifest.write` needs to know of the shards.

    Raises:
      ValueError: an unknown dtype, or a folder that already holds weights.
    """
    folder = Path(folder)
    if list(folder.glob("*.safetensors*")):
        raise ValueError(f"{folder} already holds weights; export into a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = released_tensors(config, dtype, rows)
    shards = writer.plan(tensors, shard_bytes)
    stream = names.export(params, rows)
    digests = {}
    for shard in shards:
        digest = writer.write(folder, shard, stream)
        digests[manifest.state(folder / shard.file)] = digest
    index = {
        "metadata": {"total_size": sum(tensor.size for tensor in tensors)},
        "weight_map": writer.weight_map(shards),
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    return digests


def released_tensors(
    config: ModelConfig, dtype: str, rows: Sequence[Row] = names.TABLE
) -> list[writer.Tensor]:
    """What an export consists of, in the order in which `names.export` makes it.

    Raises:
      ValueError: an unknown dtype.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} must be one of {', '.join(DTYPES)}")
    return [
        writer.Tensor(name, x.shape, DTYPES["float32" if name == names.POSITIONS else dtype])
        for name, x in names.released_shapes(config, rows).items()
    ]
