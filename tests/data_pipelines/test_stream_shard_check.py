"""A shard in another's place is found while it is read, and a damaged one gets its name."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from data_pipelines.build import shards
from data_pipelines.build.shards import read_manifest
from data_pipelines.stream import shard_check
from data_pipelines.stream.shard_check import ShardCheck
from data_pipelines.stream.source import ShardedSource
from data_pipelines.stream.stream import Stream, eval_batches
from tests.data_pipelines.stream_data import flip_byte_of_record, make_config


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_config(tmp_path_factory.mktemp("check"), bad=False)


@pytest.fixture
def harmed(config, tmp_path):
    """The config with a copy of `en` whose second shard's records are in another order, and that
    shard. The file is as long as it was.
    """
    folder = shutil.copytree(config.sources[0].path, tmp_path / "en")
    about = read_manifest(folder)["shards"]
    source = ShardedSource(folder)
    records = [source[i] for i in range(about[0]["records"], len(source))]
    path = folder / about[1]["name"]
    shards.write_shard(path, records[::-1])
    assert path.stat().st_size == about[1]["bytes"]
    sources = (dataclasses.replace(config.sources[0], path=str(folder)), *config.sources[1:])
    return dataclasses.replace(config, sources=sources), path


def test_another_shard_of_equal_size_ends_the_run(harmed):
    """Its manifest is the old one, so the state of the old stream fits: nothing else sees it."""
    config, path = harmed
    stream = Stream(config)
    stream._check._thread.join()
    for _ in range(2):
        with pytest.raises(ValueError, match=f"shard {path} is not the one .*verify=False"):
            next(stream)
    stream.close()


def test_a_flag_trains_on_it(harmed):
    config, _ = harmed
    stream = Stream(dataclasses.replace(config, verify=False))
    stream._check._thread.join()
    next(stream)
    stream.close()
    eval_batches(config, num_batches=1)


def test_a_flipped_bit_is_named_and_costs_its_record(config, tmp_path, caplog):
    """A terabyte has flipped bits; a run must not end for one."""
    folder = shutil.copytree(config.sources[0].path, tmp_path / "en")
    path = folder / read_manifest(folder)["shards"][0]["name"]
    flip_byte_of_record(path, 5)
    check = ShardCheck([folder, config.sources[1].path], mine=[0, 1], of=2)
    check._thread.join()
    check.raise_wrong()
    assert f"shard {path} is damaged: 1 of its records cannot be read" in caplog.text


def test_processes_share_the_shards(config, monkeypatch):
    """Every shard is hashed by one of them; each hashing all would be a pod's traffic times 64."""
    hashed = []
    digest = shard_check.sha256_of
    monkeypatch.setattr(shard_check, "sha256_of", lambda p: hashed.append(p.name) or digest(p))
    for mine in ([0, 1], [2], [3]):
        check = ShardCheck([source.path for source in config.sources], mine=mine, of=4)
        check._thread.join()
        check.raise_wrong()
    manifests = [read_manifest(Path(source.path)) for source in config.sources]
    assert sorted(hashed) == sorted(shard["name"] for m in manifests for shard in m["shards"])


def test_a_shard_that_cannot_be_read_is_an_error(config, monkeypatch):
    """A fault of the disk is no bad record: it must not be counted as one."""

    def refuse(path):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(shard_check, "sha256_of", refuse)
    check = ShardCheck([config.sources[0].path], mine=[0], of=1)
    check._thread.join()
    with pytest.raises(OSError, match="Input/output error.*en-00000"):
        check.raise_wrong()
