"""The chunked loss against full logits and Optax's cross-entropy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qwenvl_jax.batch import IGNORE
from qwenvl_jax.train.loss import token_losses


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((2, 24, 16)).astype(np.float32)
    head = rng.standard_normal((16, 40)).astype(np.float32)
    targets = rng.integers(0, 40, (2, 24)).astype(np.int32)
    targets[rng.random((2, 24)) < 0.4] = IGNORE
    return hidden, head, targets


@pytest.mark.parametrize("chunk", [4, 24])
def test_values_and_gradients_equal_full_logits(inputs, chunk):
    """A chunk that is dropped, doubled or shifted would change a token's loss or a gradient."""
    hidden, head, targets = inputs

    def reference(hidden, head):
        losses = optax.softmax_cross_entropy_with_integer_labels(
            hidden @ head, jnp.maximum(targets, 0)
        )
        return jnp.where(targets == IGNORE, 0.0, losses)

    ours = token_losses(hidden, head, targets, chunk=chunk)
    np.testing.assert_allclose(ours, reference(hidden, head), rtol=1e-5, atol=1e-6)
    got = jax.grad(lambda h, w: token_losses(h, w, targets, chunk=chunk).sum(), (0, 1))(
        hidden, head
    )
    want = jax.grad(lambda h, w: reference(h, w).sum(), (0, 1))(hidden, head)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_full_logits_never_exist(inputs):
    """If the backward pass kept every chunk's logits, temporaries would grow with T x V."""
    B, T, D, V, chunk = 2, 1024, 16, 4096, 64
    shapes = (
        jax.ShapeDtypeStruct((B, T, D), jnp.float32),
        jax.ShapeDtypeStruct((D, V), jnp.float32),
        jax.ShapeDtypeStruct((B, T), jnp.int32),
    )
    grad = jax.jit(jax.grad(lambda h, w, t: token_losses(h, w, t, chunk=chunk).sum(), (0, 1)))
    stats = grad.lower(*shapes).compile().memory_analysis()
    assert stats.temp_size_in_bytes < B * T * V * 4 / 4
