"""GELU in low precision."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qwenvl_jax.model.mlp import gelu


@pytest.mark.parametrize(("dtype", "limit"), [("bfloat16", 2**-8), ("float32", 1e-5)])
def test_gelu_is_exact_to_its_dtype(dtype, limit):
    """x * Phi(x) in double precision, and Phi(x) + x * phi(x) for the slope: computed in bfloat16
    throughout, as JAX's own does, it is off by three times as much.
    """
    x = jnp.linspace(-6, 6, 4001).astype(dtype)
    exact = np.asarray(x, np.float64)
    phi = np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in exact])
    slope = phi + exact * np.exp(-(exact**2) / 2) / math.sqrt(2 * math.pi)
    for got, wanted in ((gelu(x), exact * phi), (jax.vmap(jax.grad(gelu))(x), slope)):
        assert got.dtype == dtype
        error = np.abs(np.asarray(got, np.float64) - wanted)
        assert (error <= limit * np.maximum(np.abs(wanted), 2**-4)).all()
