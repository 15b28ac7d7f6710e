"""If these break, a user's mistake ends in silence or in a crash that does not say what to mend."""

import dataclasses
import shutil

import pytest

from data_pipelines.build.shards import write_manifest
from data_pipelines.stream.config import SourceConfig, StreamConfig
from data_pipelines.stream.source import ShardedSource
from data_pipelines.stream.stream import Stream
from tests.data_pipelines.stream_data import make_config


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_config(tmp_path_factory.mktemp("errors"))


@pytest.fixture
def folder(config, tmp_path):
    """A copy of a source, to be harmed."""
    return shutil.copytree(config.sources[0].path, tmp_path / "copy")


def first_shard(folder):
    return sorted(folder.glob("*.array_record"))[0]


def test_missing_folder(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        ShardedSource(tmp_path / "nowhere")


def test_missing_shard(folder):
    first_shard(folder).unlink()
    with pytest.raises(ValueError, match="en-00000-of-00002.*missing"):
        ShardedSource(folder)


@pytest.mark.parametrize("kept", [0, 1000, -1])
def test_truncated_shard(folder, kept):
    """The raw reader takes a cut file for an empty one."""
    shard = first_shard(folder)
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(ValueError, match="en-00000-of-00002.*truncated"):
        ShardedSource(folder)


def test_overwritten_shard(folder):
    """As long as it was, but nothing is left in it."""
    shard = sorted(folder.glob("*.array_record"))[1]
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(ValueError, match="en-00001-of-00002.*damaged"):
        ShardedSource(folder)


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"shards": [{"name": "a"}]}'])
def test_damaged_manifest(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="manifest.json"):
        ShardedSource(folder)


def test_empty_source(tmp_path):
    write_manifest(tmp_path, [], config={})
    with pytest.raises(ValueError, match="no records"):
        ShardedSource(tmp_path)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        (dict(global_rows=6), "global_rows=6.*virtual_shards=4"),
        (dict(global_rows=0), "global_rows=0"),
        (dict(virtual_shards=0), "virtual_shards=0"),
        (dict(look_ahead=0), "look_ahead=0"),
        (dict(prefetch=0), "prefetch=0"),
        (dict(slot_rows=0), "slot_rows=0"),
        (dict(slot_rows=4), "slot_rows=4 does not divide the 2 rows"),
        (dict(slot_rows=2, slot_turns=3), "slot_turns=3 does not divide config.data.slot_rows=2"),
        (dict(num_workers=-1), "num_workers=-1"),
        (dict(seq_len=4), "seq_len=4.*num_queries=3"),
        (dict(sources=()), "sources is empty"),
    ],
)
def test_settings_that_cannot_be(config, changes, key):
    with pytest.raises(ValueError, match=rf"config\.data\.{key}"):
        dataclasses.replace(config, **changes)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_that_cannot_be(weight):
    with pytest.raises(ValueError, match=r"config\.data\.sources\.a\.weight"):
        SourceConfig("a", "folder", "en", weight)


def test_sources_of_one_name(config):
    """They would be read in one order and logged as one."""
    with pytest.raises(ValueError, match=r"config\.data\.sources.*twice"):
        dataclasses.replace(config, sources=config.sources[:1] * 2)


def test_workers_that_do_not_divide(config):
    """Rows would be torn between two owners."""
    with pytest.raises(ValueError, match=r"config\.data\.num_workers=3.*4 virtual shards"):
        Stream(dataclasses.replace(config, num_workers=3))
    with pytest.raises(ValueError, match=r"config\.data\.num_workers=2.*1 virtual shards"):
        Stream(dataclasses.replace(config, num_workers=2), shards=[1])


def test_nothing_but_bad_records(config, monkeypatch):
    """A wrong setting that refuses every record must end the run, not spin for ever."""
    monkeypatch.setattr("data_pipelines.stream.shard.GIVE_UP", 100)
    narrow = dataclasses.replace(config, image_slots=0, seq_len=1, max_refused=1.0)
    with pytest.raises(ValueError, match="100 records.*too_long"):
        next(Stream(narrow))


def test_shapes_are_those_of_the_batches(config):
    """The step is compiled from these before the first batch is read."""
    shapes, batch = StreamConfig.batch_shapes(config), next(Stream(config))
    for name, shape, array in zip(batch._fields, shapes, batch, strict=True):
        assert (shape.shape, shape.dtype) == (array.shape, array.dtype), name
