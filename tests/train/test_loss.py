"""The chunked loss against all logits at once in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qwenvl_jax.batch import IGNORE
from qwenvl_jax.parallel.mesh import MeshConfig, make_mesh
from qwenvl_jax.train.loss import token_losses

LABELLED = {  # of the 24 positions of each of 8 rows
    "some": [15, 9, 1, 20, 3, 12, 8, 5],
    "rows of all and of none": [24, 0, 24, 0, 0, 0, 24, 1],
    "none": [0] * 8,
    "all": [24] * 8,
}


def inputs(counts):
    """(hidden, head, targets, weights of the positions)."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((8, 24, 16)).astype(np.float32)
    head = rng.standard_normal((16, 40)).astype(np.float32)
    targets = rng.integers(0, 40, (8, 24)).astype(np.int32)
    for row, count in enumerate(counts):
        targets[row, rng.permutation(24)[count:]] = IGNORE
    return hidden, head, targets, rng.standard_normal((8, 24)).astype(np.float32)


def brute_force(hidden, head, targets, weights):
    """(losses, gradients of their weighted sum with respect to hidden and head)."""
    hidden, head = hidden.astype(np.float64), head.astype(np.float64)
    logits = hidden @ head
    total = np.exp(logits).sum(-1, keepdims=True)
    errors = np.exp(logits) / total - np.eye(head.shape[1])[np.maximum(targets, 0)]
    is_labelled = targets != IGNORE
    picked = np.take_along_axis(logits, np.maximum(targets, 0)[..., None], -1)
    losses = (np.log(total) - picked)[..., 0] * is_labelled
    errors *= (weights * is_labelled)[..., None]
    return losses, errors @ head.T, np.einsum("btd,btv->dv", hidden, errors)


def ours(chunk):
    def weighed(hidden, head, targets, weights):
        losses = token_losses(hidden, head, targets, chunk=chunk)
        return (losses * weights).sum(), losses

    def run(*given):
        gradients, losses = jax.grad(weighed, (0, 1), has_aux=True)(*given)
        return losses, *gradients

    return jax.jit(run)


def close(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("chunk", [7, 500])
def test_values_and_gradients_equal_full_logits(chunk):
    """A chunk that is dropped, doubled or shifted would change a token's loss or a gradient; 7 does
    not divide, 500 is more than there is.
    """
    run = ours(chunk)
    for counts in LABELLED.values():
        given = inputs(counts)
        close(run(*given), brute_force(*given))


def test_each_device_has_its_own_labels():
    """The devices go round different numbers of times, with half of the entries each: a sum that
    waits for another row's device would hang, one that misses a device would be wrong. Other
    numbers of labels are no new program.
    """
    run = ours(8)
    with jax.set_mesh(make_mesh(MeshConfig(2, 2, 2))):
        for counts in LABELLED.values():
            given = inputs(counts)
            close(run(*given), brute_force(*given))
    assert run._cache_size() == 1


def test_full_logits_never_exist():
    """By the compiler's own count a sixteenth of them at most, the gradient of a frozen head's
    input included, however many positions are labelled.
    """
    B, T, D, V = 2, 1024, 16, 4096
    shapes = (
        jax.ShapeDtypeStruct((B, T, D), jnp.float32),
        jax.ShapeDtypeStruct((D, V), jnp.float32),
        jax.ShapeDtypeStruct((B, T), jnp.int32),
    )
    grad = jax.jit(jax.grad(lambda h, w, t: token_losses(h, w, t, chunk=64).sum()))
    stats = grad.lower(*shapes).compile().memory_analysis()
    assert stats.temp_size_in_bytes < B * T * V * 4 / 16
