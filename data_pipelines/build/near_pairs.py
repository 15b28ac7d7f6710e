"""Comparing hashes of pictures: which records lie near an earlier one, and under which rule."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Integer, UInt8, UInt16, UInt64

from data_pipelines.build.keys import EVALUATION, Rows
from data_pipelines.build.marks import code

_LARGE = 64  # records of one band value that are worth a loop of their own


def near_earlier(group: Rows, band: int, bits: int) -> Integer[np.ndarray, "2 M"]:
    """The records that lie near an earlier one with the same value of a band."""
    # Four bands a word, the first lowest.
    values_N = (group.words_NW[:, band // 4] >> np.uint64(16 * (band % 4))).astype(np.uint16)
    order = np.argsort(values_N, kind="stable")
    group, values_N = group.take(order), values_N[order]
    nearest_N = np.zeros(len(order), np.uint8)
    for earlier, lag in _candidates(values_N, group.words_NW[:, 0].copy(), bits):
        differ = np.bitwise_count(group.words_NW[earlier] ^ group.words_NW[earlier + lag])
        earlier = earlier[differ.sum(1, dtype=np.uint16) <= bits]
        _note(nearest_N, earlier + lag, group.sources_N[earlier], group.sources_N[earlier + lag])
    gone = np.flatnonzero(nearest_N)
    return np.stack([group.rows_N[gone], nearest_N[gone].astype(np.int64)])


def near_of_two(earlier: Rows, later: Rows, bits: int) -> Integer[np.ndarray, "2 M"]:
    """The later records that lie near one of the earlier ones."""
    nearest_N = np.zeros(len(later.rows_N), np.uint8)
    first_N = later.words_NW[:, 0].copy()
    for words_W, source in zip(earlier.words_NW, earlier.sources_N):
        near = np.flatnonzero(np.bitwise_count(first_N ^ words_W[0]) <= bits)
        differ = np.bitwise_count(later.words_NW[near] ^ words_W)
        near = near[differ.sum(1, dtype=np.uint16) <= bits]
        _note(nearest_N, near, np.full(len(near), source), later.sources_N[near])
    gone = np.flatnonzero(nearest_N)
    return np.stack([later.rows_N[gone], nearest_N[gone].astype(np.int64)])


def _note(
    nearest_N: UInt8[np.ndarray, "N"],
    places_M: Integer[np.ndarray, "M"],
    first_M: UInt16[np.ndarray, "M"],
    own_M: UInt16[np.ndarray, "M"],
) -> None:
    """Keep the least verdict of each place, from the sources of the earlier record and its own."""
    same = np.where(first_M == own_M, code("near_image"), code("near_image_other_source"))
    codes = np.where(first_M == EVALUATION, code("evaluation_image_near"), same)
    known = nearest_N[places_M]
    nearest_N[places_M] = np.where(known == 0, codes, np.minimum(known, codes))


def _candidates(
    values_N: UInt16[np.ndarray, "N"], words_N: UInt64[np.ndarray, "N"], bits: int
) -> Iterator[tuple[Integer[np.ndarray, "M"], int]]:
    """Places i, and a lag, such that i and i + lag have one value and differ little in their first
    64 bits. Values come sorted.
    """
    starts = np.flatnonzero(np.diff(values_N.astype(np.int32), prepend=-1))
    sizes = np.diff(starts, append=len(values_N))
    for start, size in zip(starts[sizes > _LARGE], sizes[sizes > _LARGE]):
        words = words_N[start : start + size]
        for lag in range(1, size):  # neighbouring memory, no index: six times as fast
            near = np.flatnonzero(np.bitwise_count(words[lag:] ^ words[:-lag]) <= bits)
            if len(near):
                yield start + near, lag
    # All small groups at once: every row with the next of its value, then the next but one.
    earlier = np.flatnonzero(np.repeat(sizes <= _LARGE, sizes))
    for lag in range(1, _LARGE):
        earlier = earlier[earlier + lag < len(values_N)]
        earlier = earlier[values_N[earlier] == values_N[earlier + lag]]
        near = np.bitwise_count(words_N[earlier] ^ words_N[earlier + lag]) <= bits
        yield earlier[near], lag
