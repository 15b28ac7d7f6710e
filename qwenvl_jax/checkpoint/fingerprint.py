"""A content hash of a tree of arrays that does not depend on how they are sharded.

Each leaf becomes two 32-bit integers: sums of its words, mixed with their place in the whole leaf,
modulo 2^32 (exact in any order), so that every host adds up its own shards. The handful of numbers
is hashed with names, shapes and dtypes. One changed word, which Orbax restores without a word,
always changes the hash. It runs on the host in pieces that fit a core's cache: nothing to compile,
and no copy of a leaf beside the one that saving makes anyway.
"""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from qwenvl_jax import trees

_PIECE = 1 << 16  # words mixed at a time
_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32}


def _mix(x: np.ndarray) -> np.ndarray:
    """A bijection on 32-bit words, in place, in which every bit depends on every other."""
    x ^= x >> 16
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> 13
    x *= np.uint32(0xC2B2AE35)
    x ^= x >> 16
    return x


def _places(index: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers for rows and columns of a shard as a matrix; a word's place is their sum."""
    rows = np.zeros(1, np.uint32)
    *first, last = [np.arange(*s.indices(n), dtype=np.uint32) for s, n in zip(index, shape)]
    for numbers in first:
        rows = _mix((rows * np.uint32(31))[:, None] + numbers + np.uint32(1)).reshape(-1)
    return rows, _mix(last + np.uint32(0x9E3779B9))


def _digest(shard: np.ndarray, index: tuple[slice, ...], shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = _places(index, shape)
    words = shard.reshape(len(rows), len(columns)).view(_WORDS[shard.dtype.itemsize])
    tall = max(1, _PIECE // max(1, len(columns)))
    pieces = [
        (slice(top, top + tall), slice(left, left + _PIECE))
        for top in range(0, len(rows), tall)
        for left in range(0, len(columns), _PIECE)
    ]

    def digest(piece: tuple[slice, slice]) -> np.ndarray:
        mixed = words[piece].astype(np.uint32)
        mixed += rows[piece[0], None]
        mixed += columns[piece[1]]
        first = _mix(mixed).sum(dtype=np.uint32)
        mixed *= mixed >> 16
        return np.array([first, mixed.sum(dtype=np.uint32)], np.uint32)

    if len(pieces) < 4:
        return sum(map(digest, pieces), np.zeros(2, np.uint32))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy lets go of the interpreter's lock
        return sum(pool.map(digest, pieces), np.zeros(2, np.uint32))


def _shards(leaf: Any) -> Iterator[tuple[np.ndarray, tuple[slice, ...]]]:
    """This host's part of a leaf, each entry once over all hosts."""
    if isinstance(leaf, jax.Array):
        for shard in leaf.addressable_shards:
            if shard.replica_id == 0:
                yield np.asarray(shard.data), shard.index
    elif jax.process_index() == 0:
        yield np.asarray(leaf), (slice(None),) * np.ndim(leaf)


def _digest_leaf(leaf: Any) -> np.ndarray:
    total, shape = np.zeros(2, np.uint32), tuple(leaf.shape)
    for shard, index in _shards(leaf):
        if shard.size:
            shard = np.ascontiguousarray(shard)
            total += _digest(shard, index or (slice(None),), shape or (1,))
    return total


def fingerprint(tree: trees.Tree) -> str:
    """16 hex digits that name the content of `tree` (any pytree of 8-, 16- or 32-bit arrays).

    Leaves may also be functions that return them: then one exists at a time.
    """
    about, digests = [], []
    for path, value in sorted(trees.flatten(tree).items()):
        leaf = value() if callable(value) else value
        about.append(f"{path} {leaf.dtype} {tuple(leaf.shape)}")
        digests.append(_digest_leaf(leaf))
    sums = np.stack(digests) if digests else np.zeros((0, 2), np.uint32)
    if jax.process_count() > 1:
        sums = np.asarray(multihost_utils.process_allgather(sums)).sum(0, dtype=np.uint32)
    lines = [f"{line} {numbers.tolist()}" for line, numbers in zip(about, sums)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
