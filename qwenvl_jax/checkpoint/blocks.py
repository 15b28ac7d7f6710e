"""Arrays copied into order: a transposed one by way of blocks that fit a core's cache."""

from typing import Any

import numpy as np

# Entries. A block is copied row by row into a table of its own and transposed from there: read
# where it lies, rows a power of two apart fall on the same few lines of the cache and push each
# other out. The table's rows are longer than the block's for the same reason.
_SIDE, _GAP = 256, 32


def copy(out: np.ndarray, x: Any) -> None:
    """`out[...] = x` for an `x` of the same shape and any strides and dtype."""
    if out.dtype == x.dtype and out.dtype.itemsize == 2:
        out, x = out.view(np.uint16), x.view(np.uint16)  # NumPy copies its own types much faster
    fast = min(range(x.ndim), key=lambda i: (x.shape[i] == 1, x.strides[i]), default=0)
    if x.ndim < 2 or fast == x.ndim - 1:
        out[...] = x
        return
    table = np.empty((_SIDE, _SIDE + _GAP), x.dtype)
    out, x = np.moveaxis(out, fast, 0), np.moveaxis(x, fast, 0)
    for other in np.ndindex(x.shape[1:-1]):
        index = (slice(None), *other)
        _transpose(out[index], x[index], table)


def _transpose(out: np.ndarray, x: np.ndarray, table: np.ndarray) -> None:
    """A matrix whose columns lie in memory one after the other."""
    # The last axis is the slow one of `x`: a mapped file is read from front to back.
    for left in range(0, x.shape[1], _SIDE):
        for first in range(0, x.shape[0], _SIDE):
            block = (slice(first, first + _SIDE), slice(left, left + _SIDE))
            rows = x[block].T
            part = table[: rows.shape[0], : rows.shape[1]]
            part[...] = rows
            out[block] = part.T
