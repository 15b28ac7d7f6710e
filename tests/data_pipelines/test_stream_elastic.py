"""If these break, a job that comes back on fewer or more machines trains on other data, silently.

Everything that could depend on the machines is on: bad records, packing, a mix whose weights change
between the save and the end, text alone beside pictures, worker processes.
"""

import dataclasses

import numpy as np
import pytest

from data_pipelines.stream.config import WeightChange
from data_pipelines.stream.stream import Stream
from tests.data_pipelines.stream_data import divided, make_config

SAVED, LAST = 5, 11


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = make_config(
        tmp_path_factory.mktemp("elastic"), virtual_shards=8, global_rows=16, look_ahead=5
    )
    english, chinese = config.sources
    chinese = dataclasses.replace(
        chinese, changes=(WeightChange(SAVED - 1, 0.1), WeightChange(SAVED + 2, 1.5))
    )
    return dataclasses.replace(config, sources=(english, chinese))


def run(config, hosts, state, count):
    """Global batches as bytes a field, and the state after the last, of simulated hosts."""
    streams = [Stream(config, shards=part, state=state) for part in divided(config, hosts)]
    batches = []
    for _ in range(count):
        parts = [next(stream) for stream in streams]
        batches.append([np.concatenate(field).tobytes() for field in zip(*parts, strict=True)])
    state = np.max([stream.state() for stream in streams], axis=0)
    skipped = sum(
        value
        for stream in streams
        for name, value in stream.metrics().items()
        if name.startswith("skipped/")
    )
    for stream in streams:
        stream.close()
    return batches, state, skipped


@pytest.fixture(scope="module")
def on_four(config):
    """Saved on four hosts, and gone on with on the same four."""
    before, state, _ = run(config, 4, None, SAVED)
    after, last, skipped = run(config, 4, state, LAST - SAVED)
    assert skipped >= 10 and len({batch[0] for batch in before + after}) == LAST
    return before, state, after, last


@pytest.mark.parametrize("hosts", [1, 2, 8])
def test_saved_on_four_hosts_resumed_on_others(config, on_four, hosts):
    before, state, after, last = on_four
    batches, ended, _ = run(config, hosts, state, LAST - SAVED)
    assert batches == after
    np.testing.assert_array_equal(ended, last, strict=True)
    assert run(config, hosts, None, SAVED)[0] == before


@pytest.mark.parametrize(("hosts", "workers", "prefetch"), [(1, 4, 3), (2, 2, 1)])
def test_resumed_with_worker_processes(config, on_four, hosts, workers, prefetch):
    """Grain's own state restored under another worker count would give other data."""
    _, state, after, _ = on_four
    changed = dataclasses.replace(config, num_workers=workers, prefetch=prefetch)
    batches, between, _ = run(changed, hosts, state, 3)
    assert batches == after[:3]
    assert run(config, 4, between, 1)[0] == after[3:4]


def test_geometry_that_cannot_be_honoured(config, on_four):
    """Refused before a record is read, with the numbers that do not fit."""
    _, state, _, _ = on_four
    with pytest.raises(ValueError, match="has 6 virtual shards.*virtual_shards=8"):
        Stream(config, state=state[:6])
    with pytest.raises(ValueError, match="num_workers=4.*2 virtual shards of a host"):
        Stream(dataclasses.replace(config, num_workers=4), shards=[2, 3], state=state)


@pytest.mark.parametrize("workers", [0, 1])
def test_failures_reach_the_trainer_as_they_are(config, on_four, workers):
    """Grain would lose the rows around an exception, and raise IndexError for ever after."""
    _, state, _, _ = on_four
    narrow = dataclasses.replace(config, seq_len=20, num_workers=workers)
    stream = Stream(narrow, state=state)
    for _ in range(2):
        with pytest.raises(ValueError, match="too_long.*config.data.seq_len"):
            next(stream)
    stream.close()
