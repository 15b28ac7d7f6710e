"""Safetensors files written tensor by tensor: with all sizes known, the header comes first."""

import json
import math
import os
import struct
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from qwenvl_jax.checkpoint import blocks

_NAMES = {np.dtype(np.float32): "F32", np.dtype(ml_dtypes.bfloat16): "BF16"}
_PANEL_BYTES = 4 << 20  # of a tensor put in order at a time
_THREADS = 2  # tensors written at a time, while the next is read


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


def write(folder: Path, shard: Shard, tensors: Iterator[tuple[str, Any]]) -> None:
    """Take a shard's tensors off an iterator and write them; the file appears when it is whole."""
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
    start = 8 + len(text)
    partial = folder / f"{shard.file}.partial"
    with partial.open("wb") as file, ThreadPoolExecutor(_THREADS) as pool:
        file.write(struct.pack("<Q", len(text)) + text)
        file.flush()
        file.truncate(start + end)
        started: deque[Future] = deque()
        for tensor in shard.tensors:
            while len(started) >= _THREADS:
                started.popleft().result()
            name, x = next(tensors)
            assert (name, x.shape) == (tensor.name, tensor.shape), (name, x.shape, tensor)
            begin = start + header[name]["data_offsets"][0]
            started.append(pool.submit(_write, file.fileno(), begin, x, tensor.dtype))
            del x
        while started:
            started.popleft().result()
    partial.rename(folder / shard.file)


def _write(file: int, begin: int, x: Any, dtype: np.dtype) -> None:
    """A tensor's entries from byte `begin` on."""
    for panel in panels(x, dtype):
        piece = memoryview(panel.view(np.uint8))
        while len(piece):  # the kernel may take a part
            written = os.pwrite(file, piece, begin)
            begin, piece = begin + written, piece[written:]


def panels(x: Any, dtype: np.dtype) -> Iterator[np.ndarray]:
    """The entries of an array of any strides, in order, cast, as flat contiguous pieces."""
    x = np.asarray(x)
    rows = x.reshape(1, -1) if x.ndim < 2 else x
    step = max(1, _PANEL_BYTES // max(1, rows[0].size * dtype.itemsize)) if len(rows) else 1
    for first in range(0, len(rows), step):
        panel = rows[first : first + step]
        out = np.empty(panel.shape, dtype)
        blocks.copy(out, panel)
        yield out.reshape(-1)


def weight_map(shards: list[Shard]) -> Mapping[str, str]:
    """Tensor name -> file, for the index."""
    return {tensor.name: shard.file for shard in shards for tensor in shard.tensors}
