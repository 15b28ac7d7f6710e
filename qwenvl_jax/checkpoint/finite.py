"""Whether entries are numbers: NaN and infinity in released files are refused by tensor name."""

import ml_dtypes
import numpy as np

# The bits of infinity; above them lie the NaNs, and below every finite number.
_INFINITY = {
    np.dtype(np.float16): 0x7C00,
    np.dtype(ml_dtypes.bfloat16): 0x7F80,
    np.dtype(np.float32): 0x7F800000,
    np.dtype(np.float64): 0x7FF0000000000000,
}


def all_finite(x: np.ndarray) -> bool:
    """Whether no entry is NaN or infinite; True for integers.

    Two maxima over the bits, as signed and as unsigned numbers: no array is made, unlike
    `np.isfinite(x).all()`, which for bfloat16 takes 13 times as long.
    """
    infinity = _INFINITY.get(x.dtype)
    if infinity is None or x.size == 0:
        return True
    bits = 8 * x.dtype.itemsize
    positive = x.view(f"i{x.dtype.itemsize}").max()
    if positive >= infinity:  # of the negative ones, all bits but the sign are read as a size
        return False
    return bool(x.view(f"u{x.dtype.itemsize}").max() < infinity + 2 ** (bits - 1))
