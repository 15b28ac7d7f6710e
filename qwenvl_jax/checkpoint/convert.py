"""Tensors of PyTorch files -> our parameters in their shards, and back, one at a time."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import blocks, manifest, names
from qwenvl_jax.checkpoint import safetensors_writer as writer
from qwenvl_jax.checkpoint.finite import all_finite
from qwenvl_jax.checkpoint.names import Row
from qwenvl_jax.checkpoint.weights import Weights
from qwenvl_jax.model import posemb
from qwenvl_jax.model.config import ModelConfig

INDEX = "model.safetensors.index.json"
# What quantised files hold beside or in place of a `weight`.
_QUANTISED = {"qweight", "qzeros", "scales", "g_idx", "absmax", "quant_map", "SCB", "weight_scale"}
_FLOATS = {np.dtype(kind) for kind in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)}
DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float32": np.dtype(np.float32)}


def check(config: ModelConfig, weights: Weights, *, rows: Sequence[Row] = names.TABLE) -> None:
    """Whether a file's tensors are those that `rows` read for this configuration.

    Raises:
      ValueError: quantised tensors, tensors of a dtype that no model here has, or other fixed
        positions; or lists every missing, unexpected and mis-shaped name with what was expected.
    """
    _refuse_quantised(weights)
    expected = names.released_shapes(config, rows)
    expected.pop(names.POSITIONS, None)  # computed, compared below
    known = [n for n in weights.names if n in expected or not names.is_ignored(n, rows)]
    got = {name: jax.ShapeDtypeStruct(weights.shape(name), np.float32) for name in known}
    trees.check_same_shapes(expected, got, what=f"weights {weights.path}")
    kinds = {name: weights.dtype(name) for name in expected}
    wrong = [f"{name} is {kind}" for name, kind in kinds.items() if kind not in _FLOATS]
    if wrong:
        raise ValueError(
            f"weights {weights.path}: {len(wrong)} tensors are of a dtype that is not read:"
            f" {', '.join(wrong[:5])}; read are {', '.join(sorted(map(str, _FLOATS)))}"
        )
    if names.POSITIONS in weights.names and any(row.ours == "adapter/query" for row in rows):
        _check_positions(config, weights)


def _check_positions(config: ModelConfig, weights: Weights) -> None:
    """Refuse an adapter whose fixed positions are not those that the model computes."""
    table = posemb.sincos_2d(config.adapter.grid, config.decoder.width)
    found = weights.read(names.POSITIONS)
    # Files keep it in bfloat16: 0.004 of entries up to 1.
    if found.shape != table.shape or not np.allclose(found.astype(np.float32), table, atol=0.01):
        raise ValueError(
            f"weights {weights.path}: tensor {names.POSITIONS!r} of shape {found.shape} is not the"
            f" table of sines and cosines, {table.shape}, that the model computes in its place"
        )


def _refuse_quantised(weights: Weights) -> None:
    for name in weights.names:
        if name.rpartition(".")[2] in _QUANTISED:
            raise ValueError(
                f"weights {weights.path}: tensor {name!r} belongs to quantised weights (GPTQ, AWQ"
                " or bitsandbytes); take the release in bfloat16"
            )


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
    """One of our parameters in a file: its shape and dtype, and any slice of it.

    Its dtype is the file's, but float32 for float64 and for layers of several dtypes.
    """

    def __init__(self, weights: Weights, row: Row, shape: tuple[int, ...], dtype: Any):
        self.shape = shape
        self._weights, self._row = weights, row
        self._layers = shape[0] if "{i}" in row.released else 0
        stored = {weights.dtype(name) for name in self._names()}
        kept = stored.pop() if len(stored) == 1 else np.dtype(np.float32)
        kept = np.dtype(np.float32) if kept == np.float64 else kept  # wider than any model here
        self.dtype = np.dtype(kept if dtype is None else dtype)
        self.ndim, self.size = len(shape), math.prod(shape)
        self.not_finite: set[str] = set()  # tensors with NaN or infinity in what was read so far

    def _names(self) -> list[str]:
        released = self._row.released
        return [released.format(i=i) for i in range(self._layers)] if self._layers else [released]

    def __call__(self, index: tuple[slice, ...] = ()) -> np.ndarray:
        """The slice at `index` (all of it by default).

        Raises:
          ValueError: NaN or infinity in what was read so far; names the tensors.
        """
        index = (*index, *[slice(None)] * (len(self.shape) - len(index)))
        sizes = [len(range(*s.indices(n))) for s, n in zip(index, self.shape)]
        out = np.empty(sizes, self.dtype)
        self.fill(out, index)
        refuse_not_finite([self])
        return out

    def fill(self, out: np.ndarray, index: tuple[slice, ...]) -> None:
        """Put the slice at `index`, a slice for every dim, into an array of its shape.

        NaN and infinity do not stop it: `not_finite` has the tensors' names afterwards.
        """
        if not self._layers:
            self._copy(out, self._row.released, self.shape, index)
            return
        for place, i in enumerate(range(*index[0].indices(self._layers))):
            name = self._row.released.format(i=i)
            self._copy(out[place], name, self.shape[1:], index[1:])

    def _copy(self, out: Any, name: str, shape: tuple[int, ...], index: tuple[slice, ...]) -> None:
        blocks.copy(out, self._tensor(name, shape)[index])
        if not all_finite(out):
            self.not_finite.add(f"{name} of {self._weights.path}")

    def _tensor(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        tensor = self._weights.read(name)
        if self._row.third is not None:
            tensor = np.split(tensor, 3)[self._row.third]
        return self._row.layout.load(tensor, shape)


def refuse_not_finite(readers: Iterable[Reader]) -> None:
    """Check what readers have read so far.

    Raises:
      ValueError: NaN or infinity; names the tensors and their folders.
    """
    bad = sorted(set().union(*(reader.not_finite for reader in readers)))
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise ValueError(f"weights hold NaN or infinity: {', '.join(bad[:5])}{more}")


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


def check_new(folder: Path, *, job: str = "export") -> None:
    """Refuse a directory that holds anything: a work directory's own config.json would be lost.

    Raises:
      ValueError: names the job and the directory.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{job}: {folder} is not empty; name a new directory")


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
