"""Which checkpoints stay, against the rule said in other words."""

import itertools

import pytest

from qwenvl_jax.checkpoint.policy import CheckpointConfig, best, stay


@pytest.mark.parametrize("keep_every", [0, 2, 4])
@pytest.mark.parametrize("keep_best", [True, False])
def test_newest_and_for_good_and_best_stay(keep_every, keep_best):
    """For every set of steps and every order of losses: a step goes only if no rule holds it."""
    config = CheckpointConfig(every=1, keep=2, keep_every=keep_every, keep_best=keep_best)
    for order in itertools.permutations(range(1, 6)):
        losses = dict(zip((1, 2, 3, 4, 6), map(float, order)))
        kept = stay((6, 2, 1, 3, 4), config, losses)
        for step in (1, 2, 3, 4, 6):
            newest = step in (4, 6)
            for_good = keep_every > 0 and step % keep_every == 0
            lowest = keep_best and all(losses[step] <= loss for loss in losses.values())
            assert (step in kept) == (newest or for_good or lowest)


def test_the_best_is_known_among_steps_that_were_scored():
    """A loss of a step that is gone, or none at all, must not name a step that is not there."""
    assert best([1, 2], {3: 0.1}) is None
    assert best([1, 2, 3], {1: 0.5, 2: 0.7}) == 1
    assert best([1, 2], {1: 0.5, 2: 0.5}) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(keep=0), "config.checkpoint.keep must be at least 1"),
        (dict(every=0), "config.checkpoint.every must be at least 1"),
        (dict(keep_every=-1), "config.checkpoint.keep_every must be at least 0"),
        (dict(every=4, keep_every=10), "must be a multiple of .*every=4: 8 or 12"),
        (dict(every=4, keep_every=3), "must be a multiple of .*every=4: 4$"),
    ],
)
def test_a_wrong_value_is_named_with_one_that_works(values, message):
    with pytest.raises(ValueError, match=message):
        CheckpointConfig(**values)


@pytest.mark.parametrize("keep_every", [0, 10, 20])
@pytest.mark.parametrize("keep_best", [True, False])
def test_no_more_steps_stay_than_the_count_says(keep_every, keep_best):
    """The disk is measured with this count before a run: too low, and the run ends in the night."""
    config = CheckpointConfig(every=5, keep=2, keep_every=keep_every, keep_best=keep_best)
    there, most, losses = set(), 0, {10: 0.0}
    for step in range(5, 105, 5):
        there = set(stay(there | {step}, config, losses))
        most = max(most, len(there))
    assert most <= config.most(100) <= most + 2  # a step for two reasons
    assert config.most(5) == 1
