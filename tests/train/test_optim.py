"""The optimiser against AdamW written out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from qwenvl_jax import trees
from qwenvl_jax.train import optim
from qwenvl_jax.train.optim import OptimConfig


def config(**changes) -> OptimConfig:
    defaults = dict(steps=10, warmup_steps=2, peak_lr=1e-2, min_lr=1e-3, trainable=".*")
    return OptimConfig(**defaults | changes)


def test_schedule_is_linear_then_cosine_to_the_floor():
    """The paper's rates: 0 at step 0, the peak after the warm-up, the floor at the end."""
    rate = optim.schedule(config(steps=110, warmup_steps=10))
    expected = [0.0, 5e-3, 1e-2, 1e-3 + 9e-3 * (1 + np.cos(np.pi * 0.25)) / 2, 5.5e-3, 1e-3]
    got = [float(rate(step)) for step in (0, 5, 10, 35, 60, 110)]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-9)


def test_a_restart_begins_the_curve_anew():
    """A curriculum's later skills would be learnt at a rate that has fallen already."""
    rate = optim.schedule(config(steps=330, warmup_steps=10, restarts=(110, 220)))
    expected = [1e-3, 5e-3, 1e-2, 5.5e-3, 5e-3, 1e-3]
    got = [float(rate(step)) for step in (109.9999, 115, 120, 170, 225, 330)]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-9)


def test_one_update_by_hand():
    """Order and grouping: clip, Adam, decay by mask, layer factor, rate; a swap of two of them
    changes the numbers.
    """
    rng = np.random.default_rng(1)
    flat = {
        "vit/patch/kernel": rng.standard_normal((2, 2, 3, 4)),
        "vit/blocks/mlp/up/kernel": rng.standard_normal((3, 4, 5)),
        "vit/blocks/ln_1/scale": rng.standard_normal((3, 4)),
        "decoder/head/kernel": rng.standard_normal((4, 6)),
    }
    flat = {path: value.astype(np.float32) for path, value in flat.items()}
    grads = {
        path: rng.standard_normal(value.shape).astype(np.float32) for path, value in flat.items()
    }
    cfg = config(warmup_steps=0, vit_layer_decay=0.5, clip_norm=0.1)
    tx = optim.make_optimizer(cfg, 3)
    params = trees.unflatten(flat)
    updates, _ = tx.update(trees.unflatten(grads), tx.init(params), params)
    updates = trees.flatten(updates)

    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in grads.values()))
    factor = {
        "vit/patch/kernel": 0.5**4,
        "vit/blocks/mlp/up/kernel": np.array([0.5**3, 0.5**2, 0.5]).reshape(3, 1, 1),
        "vit/blocks/ln_1/scale": np.array([0.5**3, 0.5**2, 0.5]).reshape(3, 1),
        "decoder/head/kernel": 1.0,
    }
    for path, p in flat.items():
        g = grads[path].astype(np.float64) * 0.1 / norm
        adam = g / (np.abs(g) + cfg.eps)  # bias correction cancels at the first step
        decay = 0.0 if path.endswith("scale") else cfg.weight_decay
        want = -cfg.peak_lr * factor[path] * (adam + decay * p)
        np.testing.assert_allclose(updates[path], want, rtol=2e-4, atol=1e-8, err_msg=path)


def test_state_holds_nothing_of_the_frozen_part():
    """A moment of a frozen weight would cost 8 bytes a parameter: 62 GB for the decoder."""
    params = {"vit": {"w": jnp.ones((2, 3))}, "decoder": {"w": jnp.ones((5, 7))}}
    trainable, frozen = optim.split(config(trainable="vit/.*"), params)
    state = optim.make_optimizer(config(), 1).init(trainable)
    assert list(frozen) == ["decoder"] and list(trainable) == ["vit"]
    assert not any(leaf.shape == (5, 7) for leaf in trees.flatten(state).values())


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        (dict(warmup_steps=10), "config.optim.warmup_steps"),
        (dict(restarts=(5, 5)), "config.optim.restarts"),
        (dict(restarts=(9,)), "config.optim.restarts"),
        (dict(min_lr=1.0), "config.optim.min_lr"),
        (dict(trainable="("), "config.optim.trainable"),
        (dict(accumulation=0), "config.optim.accumulation"),
    ],
)
def test_mistakes_are_named(changes, key):
    with pytest.raises(ValueError, match=key):
        config(**changes)


def test_a_pattern_that_matches_nothing_is_refused():
    """A typo in the pattern would otherwise train nothing, for days."""
    with pytest.raises(ValueError, match="config.optim.trainable"):
        optim.split(config(trainable="vlt/.*"), {"vit": {"w": jnp.ones(1)}})
