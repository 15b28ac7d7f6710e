"""Copies in blocks: every entry once, whatever the strides."""

import ml_dtypes
import numpy as np
import pytest

from qwenvl_jax.checkpoint import blocks

SOURCE = np.random.default_rng(0).standard_normal((1100, 70), np.float32)


@pytest.mark.parametrize(
    "x",
    [
        SOURCE.T,
        SOURCE[:, ::2],
        SOURCE[:, 3:9],
        SOURCE.T[5:],
        SOURCE.reshape(11, 100, 70).transpose(2, 0, 1),
        SOURCE.reshape(2, 550, 7, 10).transpose(3, 1, 0, 2),
        SOURCE[0],
        SOURCE[:0].T,
    ],
    ids=lambda x: f"{x.shape}",
)
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_a_copy_is_the_array(x, dtype):
    """A block left out at a ragged edge would leave garbage in the last rows or columns."""
    out = np.full(x.shape, np.nan, dtype)
    blocks.copy(out, x)
    assert out.tobytes() == np.ascontiguousarray(x.astype(dtype)).tobytes()
