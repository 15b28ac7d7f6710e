"""Safetensors files written tensor by tensor: with all sizes known, the header comes first."""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

_NAMES = {np.dtype(np.float32): "F32", np.dtype(ml_dtypes.bfloat16): "BF16"}
_PANEL_BYTES = 1 << 20  # of a transposed tensor put in order at a time: fits the cache


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
    partial = folder / f"{shard.file}.partial"
    with partial.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in shard.tensors:
            name, x = next(tensors)
            assert (name, x.shape) == (tensor.name, tensor.shape), (name, x.shape, tensor)
            for panel in panels(x, tensor.dtype):
                file.write(memoryview(panel.view(np.uint8)))
    partial.rename(folder / shard.file)


def panels(x: Any, dtype: np.dtype) -> Iterator[np.ndarray]:
    """The entries of an array of any strides, in order, cast, as flat contiguous pieces."""
    x = np.asarray(x)
    rows = x.reshape(1, -1) if x.ndim < 2 else x
    step = max(1, _PANEL_BYTES // max(1, rows[0].size * dtype.itemsize)) if len(rows) else 1
    for first in range(0, len(rows), step):
        yield np.ascontiguousarray(rows[first : first + step], dtype).reshape(-1)


def weight_map(shards: list[Shard]) -> Mapping[str, str]:
    """Tensor name -> file, for the index."""
    return {tensor.name: shard.file for shard in shards for tensor in shard.tensors}
