"""If these break, a run depends on how many machines it had or on when it was interrupted."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.stream.stream import Stream, eval_batches
from tests.data_pipelines.stream_data import BAD, divided, make_config, write_source

BATCHES = 12  # several epochs of both sources: bad records come round more than once


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_config(tmp_path_factory.mktemp("stream"))


@pytest.fixture(scope="module")
def whole(config):
    """Batches and states of one uninterrupted host without workers."""
    stream = Stream(config)
    return [(next(stream), stream.state()) for _ in range(BATCHES)]


def same(got, wanted):
    for name, left, right in zip(wanted._fields, got, wanted, strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name, strict=True)


def read(config, hosts, state, count):
    """Global batches and states of `hosts` hosts: each host's rows below the other's."""
    streams = [Stream(config, shards=part, state=state) for part in divided(config, hosts)]
    for _ in range(count):
        parts = [next(stream) for stream in streams]
        batch = type(parts[0])(*(np.concatenate(field) for field in zip(*parts, strict=True)))
        yield batch, np.max([stream.state() for stream in streams], axis=0)
    for stream in streams:
        stream.close()


@pytest.mark.parametrize("start", [0, 1, 5])
@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_any_number_of_hosts_and_any_restart(config, whole, hosts, start):
    """The same rows, bit for bit, from a state that one host saved; and the same states again."""
    state = whole[start - 1][1] if start else None
    for (batch, after), (wanted, wanted_after) in zip(
        read(config, hosts, state, BATCHES - start), whole[start:], strict=True
    ):
        same(batch, wanted)
        np.testing.assert_array_equal(after, wanted_after, strict=True)


@pytest.mark.parametrize(
    ("workers", "prefetch", "hosts", "start"), [(1, 1, 1, 0), (2, 7, 1, 4), (2, 1, 2, 3)]
)
def test_any_number_of_workers(config, whole, workers, prefetch, hosts, start):
    """Worker processes read ahead: what they hold beyond the last batch must not be lost."""
    changed = dataclasses.replace(config, num_workers=workers, prefetch=prefetch)
    state = whole[start - 1][1] if start else None
    for (batch, after), (wanted, wanted_after) in zip(
        read(changed, hosts, state, 3), whole[start:], strict=False
    ):
        same(batch, wanted)
        np.testing.assert_array_equal(after, wanted_after, strict=True)


def test_states_of_several_hosts_restart_one(config, whole):
    """Fewer machines after a restart: the hosts' states put together are the global state."""
    *_, (_, state) = read(config, 4, None, 3)
    [(batch, _)] = read(config, 1, state, 1)
    same(batch, whole[3][0])


def test_the_seed_matters_and_rows_differ(config, whole):
    """A constant stream would pass every comparison above."""
    other = next(Stream(dataclasses.replace(config, seed=6)))
    assert not np.array_equal(other.tokens, whole[0][0].tokens)
    rows = [row.tobytes() for batch, _ in whole for row in batch.tokens]
    assert len(set(rows)) > len(rows) / 2  # of 90 records, few fit together in so short a row


def test_global_rows_may_change_at_a_restart(config, whole):
    """Each virtual shard goes on where it stood: rows depend on the shard, not on the batch."""
    twice = dataclasses.replace(config, global_rows=16)
    batch = next(Stream(twice, state=whole[1][1]))
    shards = config.virtual_shards
    parts = [whole[n][0].tokens.reshape(shards, 2, -1) for n in (2, 3)]
    np.testing.assert_array_equal(
        batch.tokens.reshape(shards, 4, -1), np.concatenate(parts, axis=1)
    )


def test_eval_batches_are_the_same_every_time(config, whole):
    """Validation losses of two steps must be of the same rows."""
    for batch, (wanted, _) in zip(eval_batches(config, num_batches=2), whole, strict=False):
        same(batch, wanted)


def change(config, **changes):
    return dataclasses.replace(config, **changes)


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("virtual_shards", lambda c: change(c, virtual_shards=8)),
        ("look_ahead", lambda c: change(c, look_ahead=7)),
        ("seed", lambda c: change(c, seed=6)),
        ("sources", lambda c: change(c, sources=c.sources[:1])),
        ("order", lambda c: change(c, sources=c.sources[::-1])),
        ("weights", lambda c: change(
            c, sources=(dataclasses.replace(c.sources[0], weight=0.6), c.sources[1])
        )),
    ],
)  # fmt: skip
def test_state_of_another_stream_is_refused(config, whole, key, changed):
    """Its numbers would be read as positions in another order: other data, with no error."""
    with pytest.raises(ValueError, match=rf"config\.data\..*{key}"):
        Stream(changed(config), state=whole[0][1])


def test_state_of_rebuilt_data_is_refused(config, whole, tmp_path):
    """As many records as before, others in their places."""
    rebuilt = write_source(tmp_path / "en", 0, "en", bad=False)
    source = dataclasses.replace(config.sources[0], path=str(rebuilt))
    with pytest.raises(ValueError, match="shards that their paths hold"):
        Stream(change(config, sources=(source, config.sources[1])), state=whole[0][1])


def test_waiting_sample_that_no_longer_fits_names_the_settings(config, whole):
    """Shorter rows after a restart: the reader learns which setting it was."""
    with pytest.raises(ValueError, match="too_long.*config.data.seq_len"):
        next(Stream(change(config, seq_len=20), state=whole[0][1]))


def test_moved_data_is_the_same_data(config, whole, tmp_path):
    """A path is not content."""
    (tmp_path / "moved").symlink_to(config.sources[0].path)
    source = dataclasses.replace(config.sources[0], path=str(tmp_path / "moved"))
    stream = Stream(change(config, sources=(source, config.sources[1])), state=whole[0][1])
    same(next(stream), whole[1][0])


def test_every_skip_has_its_reason(config):
    """A quietly shrinking data set is the worst of data faults."""
    stream = Stream(config)
    while stream.metrics()["epochs/en"] < 3:
        next(stream)
    counts = {k: v for k, v in stream.metrics().items() if k.startswith("skipped/")}
    assert set(counts) == {f"skipped/{reason}" for reason in BAD.values()}
    # Two records are bad_record: twice as many as the others, but for the epoch under way.
    for reason, count in counts.items():
        share = list(BAD.values()).count(reason.removeprefix("skipped/"))
        assert 3 * share - 2 <= count <= 4 * share + 2, (reason, count)
