"""If these break, a stage trains what it should keep, or leaves a part of the model behind.

Each stage is its own config page's optimiser on a toy model.
"""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from configs import stage1, stage2, stage3
from launch.stage import read
from qwenvl_jax import trees
from qwenvl_jax.train import optim, step
from qwenvl_jax.train import state as state_lib
from tests.batches import PAD_ID, packed_batch, toy_model

# (`stage2.py:frozen_llm` trains what stage 1 trains: tests/test_configs.py.)
STAGES = [stage1, stage2, stage3]


@pytest.fixture(scope="module", params=STAGES, ids=["stage1", "stage2", "stage3"])
def stage(request):
    """(optimiser config, start, frozen parameters, compiled step)."""
    whole = read(request.param.get_config())[0].optim
    short = dict(steps=10, warmup_steps=1, peak_lr=1e-2, min_lr=1e-3, accumulation=2)
    config, model = dataclasses.replace(whole, **short), toy_model(scan_layers=True)
    tx = optim.make_optimizer(config, model.vit.layers)
    start, frozen = jax.jit(lambda s: state_lib.initialize(model, config, tx, s))(0)
    train = jax.jit(step.make_train_step(model, config, tx, num_sources=2, chunk=16))
    return config, start, frozen, train


def test_trained_arrays_move_and_frozen_ones_keep_their_bits(stage):
    config, start, frozen, train = stage
    before, kept = jax.device_get((start.params, frozen))
    state = start
    for seed in range(3):
        state, _ = train(state, frozen, packed_batch(np.random.default_rng(seed)))
    moved = trees.flatten(state.params)
    squares = trees.flatten(optax.tree.get(state.opt_state, "nu"))
    for path, leaf in trees.flatten(before).items():
        assert config.is_trainable(path)
        assert (leaf != moved[path]).any(), f"{path} did not move"
        # Weight decay alone would move it too.
        assert np.max(squares[path]) > 0, f"{path} has no gradient"
    for path, leaf in trees.flatten(kept).items():
        assert not config.is_trainable(path)
        np.testing.assert_array_equal(leaf, trees.flatten(frozen)[path], err_msg=path)


def test_a_batch_without_images_only_fades_the_vision_moments(stage):
    """Text alone says nothing of the ViT and the adapter: their moments fade as for a gradient of
    zero, and nothing turns to NaN.
    """
    config, start, frozen, train = stage
    batch = packed_batch(np.random.default_rng(0))
    state, _ = train(start, frozen, batch)
    text = batch._replace(
        images=batch.images * 0,
        image_mask=batch.image_mask & False,
        tokens=np.where(batch.tokens == PAD_ID, 1, batch.tokens).astype(np.int32),
    )
    after, metrics = train(state, frozen, text)
    assert float(metrics["images"]) == 0 and np.isfinite(metrics["loss"])
    assert all(np.isfinite(leaf).all() for leaf in trees.flatten(after.opt_state).values())
    assert all(np.isfinite(leaf).all() for leaf in trees.flatten(after.params).values())
    for name, rate in (("mu", config.b1), ("nu", config.b2)):
        old, new = (trees.flatten(optax.tree.get(s.opt_state, name)) for s in (state, after))
        vision = [path for path in old if path.startswith(("vit/", "adapter/"))]
        assert vision
        for path in vision:
            np.testing.assert_allclose(new[path], rate * old[path], rtol=1e-6, err_msg=path)
        said = [path for path in old if path.startswith("decoder/blocks")]
        assert all((new[path] != rate * old[path]).any() for path in said)
