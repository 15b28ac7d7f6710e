"""Safetensors files written tensor by tensor: with all sizes known, the header comes first."""

import hashlib
import itertools
import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np

from qwenvl_jax.checkpoint import blocks

_NAMES = {np.dtype(np.float32): "F32", np.dtype(ml_dtypes.bfloat16): "BF16"}
_PANEL_BYTES = 8 << 20  # of a tensor put in order at a time
_PANELS = 4  # in memory, in the hands of one thread or another
_SYNC_BYTES = 256 << 20  # written between two calls that send it to the disk


class Tensor(NamedTuple):
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class Shard(NamedTuple):
    """One file to be: its name and its tensors in their order."""

    file: str
    tensors: tuple[Tensor, ...]


def plan(tensors: list[Tensor], shard_bytes: int) -> list[Shard]:
    """Fill shards in order, each up to `shard_bytes` and with one tensor at least."""
    groups: list[list[Tensor]] = [[]]
    for tensor in tensors:
        if groups[-1] and sum(t.size for t in groups[-1]) + tensor.size > shard_bytes:
            groups.append([])
        groups[-1].append(tensor)
    return [
        Shard(f"model-{i:05d}-of-{len(groups):05d}.safetensors", tuple(group))
        for i, group in enumerate(groups, 1)
    ]


def write(folder: Path, shard: Shard, tensors: Iterator[tuple[str, Any]]) -> str:
    """Take a shard's tensors off an iterator and write them; the file appears when it is whole.

    Returns:
      The file's sha256.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in shard.tensors:
        header[tensor.name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + tensor.size],
        }
        end += tensor.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format asks for data aligned to 8 bytes
    partial = folder / f"{shard.file}.partial"
    with _HashedFile(partial) as file:
        file.write(np.frombuffer(struct.pack("<Q", len(text)) + text, np.uint8))
        for tensor in shard.tensors:
            name, x = next(tensors)
            assert (name, x.shape) == (tensor.name, tensor.shape), (name, x.shape, tensor)
            for panel in panels(x, tensor.dtype, file.buffer):
                file.write(panel)
            del x
        digest = file.finish()
    partial.rename(folder / shard.file)
    return digest


class _HashedFile:
    """A file written in order, hashed while it is written, and synced while more is written."""

    def __init__(self, path: Path):
        self._file = path.open("wb")
        self._digest = hashlib.sha256()
        # Each does one thing at a time, in order, and waits for none of the others.
        self._hasher, self._writer, self._syncer = (ThreadPoolExecutor(1) for _ in range(3))
        self._buffers = [np.empty(_PANEL_BYTES, np.uint8) for _ in range(_PANELS)]
        self._busy: list[tuple[Future, ...]] = [()] * _PANELS
        self._turn = self._unsynced = 0
        self._syncs: list[Future] = []

    def __enter__(self) -> "_HashedFile":
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self._hasher, self._writer, self._syncer):
            pool.shutdown(cancel_futures=True)
        self._file.close()

    def buffer(self, size: int) -> np.ndarray:
        """`size` bytes to fill and to write next."""
        self._wait()
        if self._buffers[self._turn].size < size:
            self._buffers[self._turn] = np.empty(size, np.uint8)
        return self._buffers[self._turn][:size]

    def write(self, piece: np.ndarray) -> None:
        """Start to write; the piece must stay as it is until its buffer is handed out again."""
        self._wait()
        self._busy[self._turn] = (
            self._hasher.submit(self._digest.update, piece),
            self._writer.submit(self._write, piece),
        )
        self._turn = (self._turn + 1) % _PANELS

    def _wait(self) -> None:
        for future in self._busy[self._turn]:
            future.result()

    def _write(self, piece: np.ndarray) -> None:
        self._file.write(piece)
        self._unsynced += piece.nbytes
        if self._unsynced >= _SYNC_BYTES:
            self._unsynced = 0
            self._syncs.append(self._syncer.submit(os.fdatasync, self._file.fileno()))

    def finish(self) -> str:
        """Wait until everything is on disk; the sha256 of all that was written."""
        for future in itertools.chain(*self._busy):
            future.result()
        for future in self._syncs:
            future.result()
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._digest.hexdigest()


def panels(x: Any, dtype: np.dtype, buffer: Callable[[int], np.ndarray]) -> Iterator[np.ndarray]:
    """The entries of an array of any strides, in order, cast, as flat pieces of bytes.

    Args:
      x: an array, or what is sliced like one and read then.
      buffer: a number of bytes -> memory for so many, the next piece's.
    """
    x = np.asarray(x) if isinstance(x, jax.Array) or len(x.shape) < 2 else x
    rows = x.reshape(1, -1) if x.ndim < 2 else x
    row = math.prod(rows.shape[1:]) * dtype.itemsize
    step = max(1, _PANEL_BYTES // max(1, row))
    for first in range(0, len(rows), step):
        panel = rows[first : first + step]
        out = buffer(panel.size * dtype.itemsize)
        blocks.copy(out.view(dtype).reshape(panel.shape), panel)
        yield out


def weight_map(shards: list[Shard]) -> Mapping[str, str]:
    """Tensor name -> file, for the index."""
    return {tensor.name: shard.file for shard in shards for tensor in shard.tensors}
