"""Windowed attention of the vision tower against a dense mask written out pair by pair."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qwenvl_jax.model import qwenvl, windows
from qwenvl_jax.model.attention import attention
from tests.batches import toy_model
from tests.weights import random_weights


def config(window: int, layers: int):
    vit = dataclasses.replace(toy_model().vit, image_size=32, window=window, layers=layers)
    return dataclasses.replace(toy_model(), vit=vit)


def masked(q_MPNH, k_MPNH, v_MPNH, *, grid: int, side: int) -> jax.Array:
    """Every pair of patches looked at: those of one window see each other."""
    rows, columns = np.divmod(np.arange(grid**2), grid)
    window = rows // side * grid + columns // side
    scores = jnp.einsum("mpnh,msnh->mnps", q_MPNH, k_MPNH) / np.sqrt(q_MPNH.shape[-1])
    weights = jnp.exp(jnp.where(window[:, None] == window, scores, -jnp.inf))
    weights /= weights.sum(-1, keepdims=True)
    return jnp.einsum("mnps,msnh->mpnh", weights, v_MPNH)


@pytest.mark.parametrize(("grid", "side"), [(6, 2), (6, 3), (4, 4), (4, 1)])
def test_windows_are_a_block_mask(grid, side):
    """Columns and rows swapped, or a window across the image's edge, would differ; a patch sent
    back to the wrong place would give its gradient to another.
    """
    shape = (4, 2, grid**2, 3, 5)
    q, k, v, weight = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)

    def windowed(q, k, v):
        return windows.join(attention(*(windows.split(x, side) for x in (q, k, v))), grid**2)

    got, pull = jax.vjp(windowed, q, k, v)
    want, pull_masked = jax.vjp(functools.partial(masked, grid=grid, side=side), q, k, v)
    np.testing.assert_allclose(got, want, atol=2e-6)
    for ours, theirs in zip(pull(weight), pull_masked(weight), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(("layers", "everywhere"), [(3, False), (4, True)])
def test_only_every_fourth_layer_sees_the_whole_image(layers, everywhere):
    """A change in one window reaches the others exactly when a global layer is there."""
    model = config(window=16, layers=layers)
    params = random_weights(model)

    images = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3), np.uint8)
    changed = images.copy()
    changed[:, 24:, 24:] ^= 255  # within the last window
    before, after = (model_features(model, params, x) for x in (images, changed))
    moved = np.abs(before - after).max(-1)[0].reshape(4, 4) > 0
    assert moved[2:, 2:].all()
    assert moved[:2].all() == moved[:2].any() == everywhere


def model_features(model, params, images) -> np.ndarray:
    return np.asarray(
        qwenvl.QwenVL(model).apply(
            {"params": params}, images, method=lambda module, x: module.vit(x)
        )
    )


def test_a_window_as_large_as_the_image_changes_nothing():
    """Nor do gradients, through the branch that the compiled step takes."""

    def gradients(model, vit, images):
        def loss(vit):
            params = random_weights(model) | {"vit": vit}
            return (qwenvl.image_features(model, params, images) ** 2).sum()

        return jax.jit(jax.value_and_grad(loss))(vit)

    images = np.random.default_rng(2).integers(0, 256, (2, 32, 32, 3), np.uint8)
    vit = random_weights(config(0, 3))["vit"]
    plain, windowed = (gradients(config(side, 3), vit, images) for side in (0, 32))
    for got, want in zip(jax.tree.leaves(windowed), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize(
    ("window", "message"), [(12, "vit.window=12 is not"), (24, "vit.image_size=32 is not")]
)
def test_windows_that_do_not_tile(window, message):
    with pytest.raises(ValueError, match=message):
        config(window, 3)
