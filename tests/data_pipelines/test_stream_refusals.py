"""A source that gives nothing is an error; a run of it trained to its end on the other sources."""

import dataclasses

import pytest

from data_pipelines.build.shards import shard_name, write_manifest, write_shard
from data_pipelines.schema import Record, pack
from data_pipelines.stream.stream import Stream
from tests.data_pipelines.stream_data import make_config


def test_a_source_of_broken_pictures_ends_the_run_with_reason_and_keys(tmp_path):
    config = make_config(tmp_path, bad=False)
    folder = tmp_path / "broken"
    records = [Record(f"k{n}", "caption", "en", (b"no picture",), text="x") for n in range(6)]
    info = write_shard(folder / shard_name("b", index=0, count=1), map(pack, records))
    write_manifest(folder, [info], config={})
    broken = dataclasses.replace(config.sources[0], path=str(folder))
    config = dataclasses.replace(config, sources=(broken, config.sources[1]))
    with pytest.raises(ValueError) as error:
        next(Stream(config))
    said = str(error.value)
    assert "config.data.sources.en: 100% of 50 records are refused: image_unreadable 50" in said
    assert said.count("; k") == 2 and "above config.data.max_refused=0.5" in said


def test_some_refusals_are_said_once_and_go_on(tmp_path, caplog):
    """7 of 61 records are bad: above a tenth of the limit, far below it."""
    stream = Stream(make_config(tmp_path))
    for _ in range(60):
        next(stream)
    said = [r.getMessage() for r in caplog.records if "are refused" in r.getMessage()]
    assert 1 <= len(said) <= 4  # once a virtual shard
    assert all("config.data.sources.en: " in text for text in said)


def test_what_is_wrong_with_a_record_is_said(tmp_path):
    """`bad_record` alone does not tell which field to mend."""
    with pytest.raises(ValueError, match="record (3: not a record|11: .*task)"):
        stream = Stream(make_config(tmp_path, max_refused=0.04))
        for _ in range(100):
            next(stream)
