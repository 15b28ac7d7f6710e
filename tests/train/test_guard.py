"""Which steps are applied. Wrong verdicts throw good steps away, or let a NaN into the weights."""

import json
import math

import jax
import numpy as np
import pytest

from qwenvl_jax import trees
from qwenvl_jax.train import guard, optim, step
from qwenvl_jax.train import state as state_lib
from qwenvl_jax.train.optim import OptimConfig
from tests.batches import packed_batch, toy_model


def verdicts_by_hand(losses, norms, deviations: float) -> list[int]:
    """The rule in float64 over plain lists."""
    applied: list[tuple[float, float]] = []
    verdicts = []
    for pair in zip(losses, norms, strict=True):
        bad = [not math.isfinite(x) for x in pair]
        window = np.array(applied[-guard.WINDOW :], np.float64)
        ready = deviations and len(applied) >= guard.LEAST
        for value, known in zip(pair, window.T if ready else ()):
            bad.append(value > known.mean() + deviations * known.std())
        verdicts.append(bad.index(True) if True in bad else guard.APPLIED)
        if verdicts[-1] == guard.APPLIED:
            applied.append(pair)
    return verdicts


@pytest.mark.parametrize("deviations", [0.0, 2.0])
def test_verdicts_are_those_of_the_rule(deviations):
    """Several windows long, with values that are not finite, spikes, and a slow fall between; in
    the middle the guard goes through JSON, as it does in a checkpoint.
    """
    rng = np.random.default_rng(0)
    count = 3 * guard.WINDOW
    losses = 3000 + np.linspace(4, 1, count) + rng.normal(0, 0.1, count)  # two-pass or nothing
    norms = rng.lognormal(0, 0.2, count)
    losses[rng.choice(count, 9)] += 1.5
    norms[rng.choice(count, 9)] *= 4
    losses[[5, 200]], norms[[6, 200, 300]] = np.nan, np.inf
    losses, norms = losses.astype(np.float32), norms.astype(np.float32)

    @jax.jit
    def one(known, loss, norm):
        verdict = guard.judge(known, loss, norm, deviations=deviations)
        return verdict, guard.after(known, verdict, loss, norm)

    known, found = guard.fresh(), []
    for number, pair in enumerate(zip(losses, norms, strict=True)):
        if number == count // 2:
            known = guard.from_plain(json.loads(json.dumps(guard.to_plain(known))))
        verdict, known = one(known, *pair)
        found.append(int(verdict))
    assert found == verdicts_by_hand(losses, norms, deviations)
    assert known.skipped_R.tolist() == [found.count(r) for r in range(len(guard.REASONS))]
    assert known.applied == found.count(guard.APPLIED)
    reasons = {guard.REASONS[v] for v in found if v != guard.APPLIED}
    assert reasons == set(guard.REASONS if deviations else guard.NOT_FINITE)


def test_a_step_that_is_not_finite_changes_no_bit_of_weights_and_moments():
    """One NaN in Adam's second moment is a NaN in every weight from the next step on."""
    config = OptimConfig(steps=10, warmup_steps=1, peak_lr=1e-2, min_lr=1e-3, trainable=".*")
    config_model = toy_model()
    tx = optim.make_optimizer(config, config_model.vit.layers)
    state, frozen = jax.jit(lambda s: state_lib.initialize(config_model, config, tx, s))(0)
    train = jax.jit(step.make_train_step(config_model, config, tx, num_sources=2, chunk=16))
    batch = packed_batch(np.random.default_rng(0))
    state, _ = train(state, frozen, batch)

    broken = trees.map_with_path(
        lambda path, x: x.at[0].set(np.inf) if path == "decoder/ln_f/scale" else x, state.params
    )
    skipped, metrics = train(state._replace(params=broken), frozen, batch)
    assert guard.REASONS[int(metrics["verdict"])] == "loss_not_finite"
    assert not np.isfinite(metrics["loss"])
    same_bits(skipped.params, broken)
    same_bits(skipped.opt_state[:-1], state.opt_state[:-1])
    assert (int(skipped.step), int(skipped.guard.applied)) == (2, 1)

    # The rate follows the step's number, whether steps before it were applied or not.
    rate = optim.schedule(config)
    mended, metrics = train(skipped._replace(params=state.params), frozen, batch)
    assert float(metrics["lr"]) == pytest.approx(float(rate(2)))
    straight, _ = train(state._replace(step=state.step + 1), frozen, batch)
    scale = float(rate(2) / rate(1))
    for path, old in trees.flatten(jax.device_get(state.params)).items():
        moved, other = (trees.flatten(s.params)[path] - old for s in (mended, straight))
        np.testing.assert_allclose(moved, other * scale, rtol=1e-3, atol=1e-6, err_msg=path)


def same_bits(one, other) -> None:
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
