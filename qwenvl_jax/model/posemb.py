"""Fixed 2-D sine-cosine positions and PyTorch's bicubic resampling of a square position table."""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from qwenvl_jax.trees import Array


def sincos_2d(grid: int, width: int) -> Float[np.ndarray, "P D"]:
    """Positions on a `grid` x `grid` square, row-major, float32.

    The first half of the width encodes the column, the second the row; each half is [sin | cos]
    with omega_i = 10000^(-i / (width / 4)).
    """
    omega = 10000.0 ** (-np.arange(width // 4, dtype=np.float64) / (width / 4))
    angles = np.arange(grid, dtype=np.float64)[:, None] * omega
    axis = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)  # (grid, width / 2)
    columns = np.broadcast_to(axis[None], (grid, grid, width // 2))
    rows = np.broadcast_to(axis[:, None], (grid, grid, width // 2))
    return np.concatenate([columns, rows], axis=2).reshape(grid * grid, width).astype(np.float32)


@functools.lru_cache
def bicubic_matrix(source: int, target: int) -> Float[np.ndarray, "target source"]:
    """One dim of PyTorch's bicubic `interpolate` (corners not aligned, no antialiasing).

    Keys kernel with a = -0.75, edges clamped; `jax.image.resize` has a = -0.5 and
    antialiases, so it does not match.
    """
    a, matrix = -0.75, np.zeros((target, source))
    for out in range(target):
        centre = (out + 0.5) * source / target - 0.5
        first = math.floor(centre)
        for tap in range(first - 1, first + 3):
            x = abs(centre - tap)
            if x <= 1:
                weight = ((a + 2) * x - (a + 3)) * x * x + 1
            else:
                weight = a * (((x - 5) * x + 8) * x - 4)
            matrix[out, min(max(tap, 0), source - 1)] += weight
    return matrix.astype(np.float32)


def resample(table_PD: Float[Array, "P D"], grid: int) -> Float[Array, "G D"]:
    """A square position table resampled to `grid` x `grid`, in float32; the identity where the
    sizes agree.
    """
    source = math.isqrt(table_PD.shape[0])
    if source == grid:
        return table_PD
    matrix = bicubic_matrix(source, grid)
    square = table_PD.astype(jnp.float32).reshape(source, source, -1)
    out = jnp.einsum("yv,xu,vud->yxd", matrix, matrix, square, precision="highest")
    return out.reshape(grid * grid, -1)
