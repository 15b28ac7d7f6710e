"""If these break, a run trains on another mix than its config says, in bursts, or for a while."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from data_pipelines.stream.config import SourceConfig, StreamConfig, WeightChange
from data_pipelines.stream.mixture import Mixture
from data_pipelines.stream.state import split_state
from data_pipelines.stream.stream import Stream
from qwenvl_jax.text.tokenizer import load_tokenizer
from tests.data_pipelines.stream_data import make_config, numbers

WEIGHTS = [
    [1.0],
    [0.773, 0.227],
    [0.5, 0.5],
    [0.999, 0.001],
    [0.4, 0.3, 0.2, 0.1],
    [0.9, *[0.1 / 7] * 7],
    [1 / 3] * 3,
    [280.0, 300.0, 300.0, 200.0, 8.0, 3.0, 0.8, 0.6, 105.0, 220.0],  # stage 1's, in millions
    [19.7, 3.6, 3.5, 8.7, 8.7, 24.8, 7.8],  # stage 2's tasks
]


def draws(weights, count, **place) -> np.ndarray:
    """(count + 1, sources): how often each source was taken after 0, 1, .. draws."""
    mixture, counts = Mixture(weights, **place), [0] * len(weights)
    after = [tuple(counts)]
    for _ in range(count):
        counts[mixture.next(counts)] += 1
        after.append(tuple(counts))
    return np.array(after)


def off(after: np.ndarray, weights) -> np.ndarray:
    """By how many samples each source is ahead of its share, at each moment."""
    shares = np.array(weights) / sum(weights)
    return after - np.arange(len(after))[:, None] * shares


def bound(sources: int) -> float:
    return 0 if sources == 1 else 1 + sum(1 / m for m in range(1, sources - 1))


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("shard", [0, 5, 63])
def test_a_shard_is_exact_at_every_moment(weights, shard):
    """Drawing at random would be off by about 50 of 10,000."""
    error = off(draws(weights, 5000, shard=shard, shards=64), weights)
    assert np.abs(error).max() <= bound(len(weights)) + 1e-6


@pytest.mark.parametrize("seed", range(30))
def test_any_window_is_exact_for_any_weights(seed):
    """Every window of every length, by brute force, at weights of all magnitudes."""
    random = np.random.default_rng(seed)
    weights = (random.exponential(size=random.integers(2, 13)) ** random.choice([1, 4])).tolist()
    error = off(draws(weights, 300, shard=int(random.integers(8)), shards=8), weights)
    worst = max(np.abs(error[width:] - error[:-width]).max() for width in range(1, 300))
    assert worst <= 2 * bound(len(weights)) + 1e-6


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("shards", [8, 64])
def test_all_shards_together_are_exact(weights, shards):
    """Shards of one phase would be off together by up to half a sample each: 32 of 64."""
    together = sum(draws(weights, 400, shard=s, shards=shards) for s in range(shards))
    shares = np.array(weights) / sum(weights)
    error = together - np.arange(len(together))[:, None] * shards * shares
    assert np.abs(error).max() <= (0.5 + 1e-6 if len(weights) <= 2 else 8)


@pytest.mark.parametrize("weights", [[0.98, 0.02], [0.6, 0.38, 0.02], [10.0, 5.0, 3.0, 1.0, 0.4]])
def test_rare_sources_come_evenly(weights):
    """64 shards that take a rare source at one moment give one batch of it in fifty."""
    rare = np.sum([np.diff(draws(weights, 400, shard=s, shards=64)[:, -1]) for s in range(64)], 0)
    expected = 64 * weights[-1] / sum(weights)
    assert rare.max() <= 4 * expected


def test_weight_zero_is_never_drawn():
    """A source that is left out until a later step must not be read before."""
    after = draws([0.0, 3.0, 0.0, 1.0], 200)
    assert after[-1].tolist() == [0, 150, 0, 50]


def changing(config: StreamConfig, *changes: tuple[int, float]) -> StreamConfig:
    """The second source with other weights from given steps on; the first keeps its own."""
    first, second = config.sources
    second = dataclasses.replace(second, changes=tuple(WeightChange(*one) for one in changes))
    return dataclasses.replace(config, sources=(first, second))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_config(tmp_path_factory.mktemp("mixture"), bad=False)


def shares_by_step(config: StreamConfig, steps: int) -> list[float]:
    """The second source's share of each batch's samples."""
    stream, tokenizer = Stream(config), load_tokenizer(config.tokenizer)
    shares = []
    for _ in range(steps):
        batch = next(stream)
        rows = zip(batch.tokens, batch.segments, batch.sources, strict=True)
        count = Counter(source for row in rows for source, _ in numbers(*row, tokenizer))
        shares.append(count[1] / count.total())
    return shares


def test_weights_change_at_their_step(config):
    """0.3 of 1, then nearly nothing else, then none, once what waited at the change is used up: six
    samples a shard, of which each row takes the oldest.
    """
    shares = shares_by_step(changing(config, (10, 6.3), (20, 0.0)), 30)
    for part, wanted in ((slice(1, 10), 0.3), (slice(13, 20), 0.9), (slice(23, 30), 0.0)):
        assert np.mean(shares[part]) == pytest.approx(wanted, abs=0.04)
    assert max(shares[:10]) < 0.6 and max(shares[23:]) == 0  # no batch before, none after


def test_batches_before_a_change_do_not_know_of_it(config):
    """A run's past does not depend on plans for its future."""
    plain, planned = Stream(config), Stream(changing(config, (3, 9.0)))
    for step in range(5):
        same = np.array_equal(next(plain).tokens, next(planned).tokens)
        assert same == (step < 3), step


def test_the_future_may_be_changed_at_a_restart_the_past_not(config):
    """Weights are tuned while a run is stopped; what it has read cannot be unread."""
    stream = Stream(changing(config, (2, 1.0), (9, 2.0)))
    for _ in range(5):
        next(stream)
    state = stream.state()
    expected = next(stream).tokens
    for later in ((9, 3.0), (6, 2.0), (5, 1.0)):  # the last: the same weights once more
        resumed = Stream(changing(config, (2, 1.0), later), state=state)
        np.testing.assert_array_equal(next(resumed).tokens, expected)
    for past in ((2, 1.1), (3, 1.0), (4, 1.0)):
        with pytest.raises(ValueError, match="past weights"):
            Stream(changing(config, past), state=state)
    with pytest.raises(ValueError, match="past weights"):
        Stream(changing(config, (2, 1.0), (4, 5.0)), state=state)


@pytest.mark.parametrize(
    ("weight", "changes", "message"),
    [
        (1.0, ((0, 2.0),), "changes: steps.*positive"),
        (1.0, ((5, 2.0), (5, 1.0)), "changes: steps.*ascending"),
        (1.0, ((5, -1.0),), "weight=-1"),
        (0.0, ((5, 0.0),), "weight=0 at every step"),
    ],
)
def test_changes_that_cannot_be(weight, changes, message):
    with pytest.raises(ValueError, match=rf"config\.data\.sources\.a\.{message}"):
        SourceConfig("a", "folder", "en", weight, tuple(WeightChange(*one) for one in changes))


def test_a_step_without_any_weight(config):
    """Nothing could be read from there on: found when the config is read, not at that step."""
    first = dataclasses.replace(config.sources[0], changes=(WeightChange(4, 0.0),))
    with pytest.raises(ValueError, match="at step 7 every weight is 0"):
        changed = dataclasses.replace(config, sources=(first, config.sources[1]))
        changing(changed, (7, 0.0))


@pytest.mark.parametrize("refused", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_mix_is_of_samples_that_reach_a_row(weights, refused):
    """A source of which 80 % are refused had 0.42 of a mix where 0.77 was asked. Reads are drawn
    and given back as a virtual shard does, the first source alone being refused so often; the
    counts of samples are then those of a mix without refusals, at every moment.
    """
    random = np.random.default_rng(3)
    mixture, counts = Mixture(weights, shard=5, shards=64), [0] * len(weights)
    wanted = draws(weights, 3000, shard=5, shards=64)
    chance = np.array([refused, *[0.05] * (len(weights) - 1)])
    while sum(counts) < 2900:
        missing = int(random.integers(1, 64))
        while missing:
            drawn = []
            for _ in range(missing):
                drawn.append(mixture.next(counts))
                counts[drawn[-1]] += 1
            for source in drawn:
                taken = random.random() >= chance[source]
                counts[source] -= not taken
                missing -= taken
        np.testing.assert_array_equal(counts, wanted[sum(counts)])


def test_a_source_that_refuses_much_keeps_its_share_in_the_stream(tmp_path):
    """In batches, with two hosts and after a resume; the records of `en` are refused in part."""
    config = make_config(tmp_path, max_refused=1.0)
    stream = Stream(config)
    for _ in range(12):
        next(stream)
    states = [split_state(state, config) for state in stream.state()]
    resumed = Stream(config, state=stream.state())
    for _ in range(12):
        next(resumed)
    later = [split_state(state, config) for state in resumed.state()]
    for state in [*states, *later]:
        assert sum(state.skipped) > 0
        total = sum(state.accepted)
        assert total == state.emitted + len(state.waiting)
        assert abs(state.accepted[0] - 0.7 * total) <= bound(2)
        assert sum(state.taken) == total + sum(state.skipped)
