"""The train step: what moves, what must not, and what is not even computed."""

import re

import jax
import numpy as np
import pytest

from qwenvl_jax import trees
from qwenvl_jax.batch import Batch
from qwenvl_jax.model import qwenvl
from qwenvl_jax.train import optim, step
from qwenvl_jax.train import state as state_lib
from qwenvl_jax.train.optim import OptimConfig
from tests.batches import PAD_ID, packed_batch, toy_model

STAGE1 = r"(vit|adapter)/.*"


def optim_config(**changes) -> OptimConfig:
    defaults = dict(steps=10, warmup_steps=1, peak_lr=1e-2, min_lr=1e-3, trainable=STAGE1)
    return OptimConfig(**defaults | changes)


def make(config: OptimConfig, model=None, group_slots=()):
    model = model or toy_model()
    tx = optim.make_optimizer(config, model.vit.layers)
    state, frozen = jax.jit(lambda s: state_lib.initialize(model, config, tx, s))(0)
    given = dict(num_sources=2, chunk=16, group_slots=group_slots)
    train = jax.jit(step.make_train_step(model, config, tx, **given))
    return state, frozen, train


def test_frozen_keeps_its_bits_and_everything_else_moves():
    """Stage 1 must hand the decoder on unchanged, and train all of the rest."""
    state, frozen, train = make(optim_config())
    first = jax.device_get((state.params, frozen))
    for number in range(3):
        state, _ = train(state, frozen, packed_batch(np.random.default_rng(number)))
    after = jax.device_get((state.params, frozen))
    assert set(trees.flatten(first[1])) == {
        p for p in trees.flatten(trees.merge(*first)) if p.startswith("decoder/")
    }
    for path, leaf in trees.flatten(first[1]).items():
        np.testing.assert_array_equal(leaf, trees.flatten(after[1])[path], err_msg=path)
    for path, leaf in trees.flatten(first[0]).items():
        assert (leaf != trees.flatten(after[0])[path]).any(), f"{path} did not move"


def test_accumulation_equals_the_large_batch():
    """Microbatches hold different numbers of labelled tokens: a mean of means would give another
    gradient.
    """
    batch = packed_batch(np.random.default_rng(0))
    results = []
    for accumulation in (1, 2, 8):
        state, frozen, train = make(optim_config(accumulation=accumulation))
        state, metrics = train(state, frozen, batch)
        results.append((trees.flatten(state.opt_state), metrics))
    for leaves, metrics in results[1:]:
        np.testing.assert_allclose(metrics["loss"], results[0][1]["loss"], rtol=1e-6)
        np.testing.assert_allclose(metrics["loss_sum"], results[0][1]["loss_sum"], rtol=1e-5)
        for path, leaf in results[0][0].items():
            # The key bias has no gradient (softmax ignores it): what is left there is rounding,
            # hence the floor.
            scale = max(np.abs(leaf).max(), 1e-6)
            np.testing.assert_allclose(leaves[path] / scale, leaf / scale, atol=1e-4, err_msg=path)


def sharing(batch: Batch, together: int) -> Batch:
    """The same rows, their pictures in slots that so many successive rows share."""
    mask = batch.image_mask.reshape(-1, together * batch.image_mask.shape[1])
    images = batch.images.reshape(*mask.shape, *batch.images.shape[2:])
    slots = int(mask.sum(axis=1).max())
    shared = np.zeros((len(mask), slots, *images.shape[2:]), np.uint8)
    filled = np.arange(slots) < mask.sum(axis=1)[:, None]
    for group, pixels in enumerate(images):
        shared[group, filled[group]] = pixels[mask[group]]
    return batch._replace(images=shared, image_mask=filled)


@pytest.mark.parametrize("together", [2, 4])
def test_rows_that_share_slots_see_their_own_pictures(together):
    """Else a picture would stand in another row's text."""
    model, batch = toy_model(), packed_batch(np.random.default_rng(1))
    fewer = sharing(batch, together)
    assert fewer.image_mask.size < batch.image_mask.size
    assert fewer.image_mask.sum() == batch.image_mask.sum()
    params = jax.jit(lambda seed: qwenvl.init(model, jax.random.key(seed)))(0)
    embed = jax.jit(lambda batch: qwenvl.embed(model, params, batch.tokens, batch.images))
    own = np.asarray(embed(batch))
    assert np.abs(own - np.asarray(embed(batch._replace(images=batch.images * 0)))).max() > 0.01
    np.testing.assert_allclose(embed(fewer), own, atol=1e-6)


@pytest.mark.parametrize(("together", "count"), [(1, 4), (2, 2), (2, 4), (4, 2)])
def test_microbatches_are_whole_groups_of_rows(together, count):
    """Rows must keep their images, and each row must come once."""
    batch = packed_batch(np.random.default_rng(2))
    shared = sharing(batch, together) if together > 1 else batch
    micro = jax.device_get(jax.jit(step.microbatches, static_argnums=1)(shared, count))
    seen = []
    for number in range(count):
        part = Batch(*(field[number] for field in micro))
        assert len(part.tokens) == len(batch.tokens) // count
        pictures = iter(part.images[part.image_mask])
        for tokens, targets in zip(part.tokens, part.targets, strict=True):
            [row] = np.flatnonzero((batch.tokens == tokens).all(axis=1))
            np.testing.assert_array_equal(targets, batch.targets[row])
            for wanted in batch.images[row][batch.image_mask[row]]:
                np.testing.assert_array_equal(next(pictures), wanted)
            seen.append(row)
        assert next(pictures, None) is None
    assert sorted(seen) == list(range(len(batch.tokens)))


def in_turns(batch: Batch) -> tuple[Batch, tuple[int, ...]]:
    """The same rows, odd ones without their last picture, and the slots that these turns need."""
    counts = batch.image_mask.sum(axis=1)
    mask, tokens = batch.image_mask.copy(), batch.tokens.copy()
    for row in range(1, len(tokens), 2):
        mask[row, counts[row] - 1] = False
        pads = np.flatnonzero(tokens[row] == PAD_ID)
        tokens[row, pads[-4:]] = 1
    images = batch.images * mask[..., None, None, None]
    slots = tuple(int(mask[turn::2].sum(axis=1).max()) for turn in (0, 1))
    assert slots[0] > slots[1] > 0
    return batch._replace(tokens=tokens, images=images, image_mask=mask), slots


def test_slots_in_turns_are_the_same_step_of_fewer_images():
    """A microbatch cut to its own slots must lose no picture and come once; the gradient is that of
    a step that computes all slots of all rows.
    """
    count = 4
    batch, slots = in_turns(packed_batch(np.random.default_rng(4)))
    micro = jax.device_get(jax.jit(step.microbatches, static_argnums=1)(batch, count))
    parts = jax.device_get(jax.jit(step.by_slots, static_argnums=1)(micro, slots))
    assert [part.images.shape[2] for part in parts] == list(slots)
    assert sum(len(part.tokens) for part in parts) == count
    assert sum(part.image_mask.sum() for part in parts) == batch.image_mask.sum()
    results = []
    for given in ((), slots):
        state, frozen, train = make(optim_config(accumulation=count), group_slots=given)
        state, metrics = train(state, frozen, batch)
        results.append((trees.flatten(state.opt_state), metrics))
    (whole, wanted), (cut, found) = results
    np.testing.assert_allclose(found["loss_sum"], wanted["loss_sum"], rtol=1e-5)
    np.testing.assert_allclose(found["grad_norm"], wanted["grad_norm"], rtol=1e-5)
    for path, leaf in whole.items():
        scale = max(np.abs(leaf).max(), 1e-6)
        np.testing.assert_allclose(cut[path] / scale, leaf / scale, atol=1e-4, err_msg=path)


def test_losses_are_attributed_to_their_source():
    """Sums over sources must give back the whole, each computed from the unreduced losses."""
    model, batch = toy_model(), packed_batch(np.random.default_rng(3))
    state, frozen, train = make(optim_config())
    _, metrics = train(state, frozen, batch)
    losses = step.batch_losses(model, trees.merge(state.params, frozen), batch, chunk=16)
    for source in (0, 1):
        want = np.asarray(losses)[np.asarray(batch.sources) == source].sum()
        np.testing.assert_allclose(metrics["loss_sum"][source], want, rtol=1e-5)


def decoder_weight_gradients(trainable: str) -> int:
    """Matmuls of the compiled step whose result has the shape of a decoder weight."""
    state, frozen, train = make(optim_config(trainable=trainable), toy_model(scan_layers=True))
    batch = packed_batch(np.random.default_rng(0))
    text = train.lower(state, frozen, batch).as_text()
    # Of decoder weights only: gate and up (32, 48), down (48, 32), qkv (32, 96 as 3,4,8), head (32,
    # 64).
    shapes = ("32x48", "48x32", "32x3x4x8", "3x4x8x32", "32x64", "64x32", "4x8x32", "32x4x8")
    results = re.findall(r"stablehlo\.dot_general.*-> tensor<([\dx]+)xf32>", text)
    assert results, "no matmul was found: the text format changed"
    return sum(result in shapes for result in results)


def test_frozen_decoder_has_no_weight_gradient():
    """Gradients of frozen weights are a third of the decoder's work: they must not be in the
    program.
    """
    assert decoder_weight_gradients(".*") >= 5
    assert decoder_weight_gradients(STAGE1) <= decoder_weight_gradients(".*") - 5


@pytest.mark.parametrize(
    ("trainable", "slots"), [(STAGE1, 4), (r"decoder/.*", 4), (r".*", 4), (r"decoder/.*", 0)]
)
def test_a_batch_without_images_trains(trainable, slots):
    """Stage 0, whose rows have no slots, and text-only batches: no NaN, no hang, no division."""
    batch = packed_batch(np.random.default_rng(0))
    batch = batch._replace(
        images=batch.images[:, :slots] * 0,
        image_mask=batch.image_mask[:, :slots] & False,
        tokens=np.where(batch.tokens == 60, 1, batch.tokens).astype(np.int32),
    )
    state, frozen, train = make(optim_config(trainable=trainable))
    state, metrics = train(state, frozen, batch)
    assert all(np.isfinite(leaf).all() for leaf in trees.flatten(state.params).values())
    assert float(metrics["images"]) == 0
