"""Arrays copied into order: a transposed one in blocks that fit a core's cache."""

from typing import Any

import numpy as np

# Entries. NumPy walks a transposed matrix along its last axis, a cache line for every entry; in
# blocks it comes back to a line while it is still near.
_SIDE = 256


def copy(out: np.ndarray, x: Any) -> None:
    """`out[...] = x` for an `x` of the same shape and any strides and dtype."""
    if out.dtype == x.dtype and out.dtype.itemsize == 2:
        out, x = out.view(np.uint16), x.view(np.uint16)  # NumPy copies its own types much faster
    if x.ndim < 2 or x.strides[-1] == x.itemsize:
        out[...] = x
        return
    # The last axis is the slow one of a transposed `x`: a mapped file is read from front to back.
    for left in range(0, x.shape[-1], _SIDE):
        for first in range(0, x.shape[0], _SIDE):
            block = (slice(first, first + _SIDE), ..., slice(left, left + _SIDE))
            out[block] = x[block]
