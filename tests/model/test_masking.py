"""What a position may depend on: exact zeros of gradients, through the whole decoder."""

import jax
import jax.numpy as jnp
import numpy as np

from qwenvl_jax.batch import IGNORE, Batch
from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.mask import Visibility, allowed
from qwenvl_jax.train.step import batch_losses
from tests.batches import packed_batch, toy_model
from tests.weights import random_weights

CONFIG = toy_model()


def influence(segments_T, positions_T, query: int) -> np.ndarray:
    """Per input position: the largest entry of the gradient of one output position."""
    params = random_weights(CONFIG)
    segments, positions = jnp.asarray(segments_T)[None], jnp.asarray(positions_T)[None]
    T = segments.shape[1]
    visibility = Visibility(segments, positions, segments, positions)

    def output(x_BTD):
        ones = {"alpha_B": jnp.ones(1), "q_scale_BT11": jnp.ones((1, T, 1, 1))}
        hidden_BTD, _ = qwenvl.decode(CONFIG, params, x_BTD, visibility, **ones)
        return jnp.sum(jnp.sin(hidden_BTD[0, query]))  # not linear, lest a norm's sum be constant

    x_BTD = jax.random.normal(jax.random.key(1), (1, T, CONFIG.decoder.width))
    return np.abs(jax.jit(jax.grad(output))(x_BTD)[0]).max(axis=1)


def test_a_position_sees_only_its_past():
    """A mask that lets one future key through leaks the answer: the gradient must be exactly 0."""
    seen = influence(np.ones(12, np.int32), np.arange(12, dtype=np.int32), query=6)
    assert (seen[:7] > 0).all()
    assert (seen[7:] == 0).all()


def test_a_sample_sees_only_itself():
    """In a packed row neither the sample before, nor the one after, nor padding may be seen."""
    segments = np.array([1] * 4 + [2] * 5 + [3] * 3 + [0] * 2, np.int32)
    positions = np.array([*range(4), *range(5), *range(3), 0, 0], np.int32)
    seen = influence(segments, positions, query=7)
    own = (segments == 2) & (positions <= positions[7])
    assert (seen[own] > 0).all()
    assert (seen[~own] == 0).all()


def test_the_mask_against_its_words():
    """The vectorised rule against the sentence it stands for, pair by pair."""
    rng = np.random.default_rng(0)
    shape = (2, 9)
    qs, ks = rng.integers(0, 3, shape, np.int32), rng.integers(0, 3, shape, np.int32)
    qp, kp = rng.integers(0, 6, shape, np.int32), rng.integers(0, 6, shape, np.int32)
    mask = allowed(Visibility(*map(jnp.asarray, (qs, qp, ks, kp))))
    for b, t, s in np.ndindex(2, 9, 9):
        assert bool(mask[b, t, s]) == (qs[b, t] == ks[b, s] and kp[b, s] <= qp[b, t])


def test_a_sample_does_not_see_its_neighbours_image():
    """The k-th `<imgpad>` run takes the k-th slot: no other image may change a sample's loss."""
    batch = packed_batch(np.random.default_rng(3), rows=1)
    params = random_weights(CONFIG)
    losses = jax.jit(lambda batch: batch_losses(CONFIG, params, batch, chunk=32))
    images = batch.images.copy()
    images[0, 1] = 255 - images[0, 1]  # the image of segment 3
    before, after = np.asarray(losses(batch)), np.asarray(losses(batch._replace(images=images)))
    changed = before != after
    assert (batch.segments[changed] == 3).all() and changed.any()


def test_packing_changes_no_loss():
    """Every sample alone in a row must lose what it loses in the pack, token by token."""
    batch = packed_batch(np.random.default_rng(0), rows=3)
    params = random_weights(CONFIG)
    losses = jax.jit(lambda batch: batch_losses(CONFIG, params, batch, chunk=batch.tokens.shape[1]))
    packed = np.asarray(losses(batch))
    alone, where = [], []
    for row in range(3):
        slot = 0
        for segment in range(1, batch.segments[row].max() + 1):
            here = np.flatnonzero(batch.segments[row] == segment)
            picture = segment % 2 == 1
            fields = [np.zeros((1, 12), np.int32) for _ in range(5)]
            fields[1][:] = IGNORE
            for field, source in zip(fields, batch[:5], strict=True):
                field[0, : len(here)] = source[row, here]
            fields[2] = np.minimum(fields[2], 1)
            image = batch.images[row : row + 1, slot : slot + 1] * np.uint8(picture)
            alone.append(Batch(*fields, image, np.full((1, 1), picture)))
            where.append((row, here))
            slot += picture
    unpacked = np.asarray(losses(jax.tree.map(lambda *x: np.concatenate(x), *alone)))
    for i, (row, here) in enumerate(where):
        got = unpacked[i, : len(here)]
        np.testing.assert_allclose(got, packed[row, here], rtol=2e-5, atol=1e-6)
    assert np.count_nonzero(packed) == np.sum(batch.targets != IGNORE)
