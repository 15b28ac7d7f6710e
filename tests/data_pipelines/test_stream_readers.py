"""A fault of the machine is not a bad record: counted as one it leaves out data in silence."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipelines.build.shards import shard_name, write_manifest, write_shard
from data_pipelines.schema import Record, pack
from data_pipelines.stream import readers
from data_pipelines.stream.source import ShardedSource

ROOT = Path(__file__).parents[2]
READ_ALL = """
import sys
from data_pipelines.schema import unpack
from data_pipelines.stream import readers
from data_pipelines.stream.order import record_at
from data_pipelines.stream.source import ShardedSource
source = ShardedSource(sys.argv[1])
count = len(source)
assert readers.most_open() <= 128
order = [record_at(place, records=count, seed=0, name="s") for place in range(count)]
keys = [unpack(source[index]).key for index in order]
assert len(keys) == len(set(keys)) == count, (len(keys), len(set(keys)))
print(count)
"""


def write(folder: Path, *, shards: int, records: int) -> Path:
    """Text records in many small shards."""
    folder.mkdir()
    infos = [
        write_shard(
            folder / shard_name("s", index=n, count=shards),
            [pack(Record(f"{n}/{i}", "text", "en", text=f"words {i}")) for i in range(records)],
        )
        for n in range(shards)
    ]
    write_manifest(folder, infos, config={})
    return folder


def test_three_thousand_shards_under_256_files_give_every_record(tmp_path):
    """Of 1,500 shards a third of the draws was lost at the usual limit of 1,024 open files."""
    folder = write(tmp_path / "s", shards=3000, records=2)
    command = f"ulimit -Sn 256; ulimit -Hn 256; exec {sys.executable} -c '{READ_ALL}' {folder}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "6000\n", done.stderr


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_a_fault_that_passes_costs_no_record_and_one_that_stays_ends_by_name(
    tmp_path, monkeypatch, code
):
    folder = write(tmp_path / "s", shards=1, records=4)
    source = ShardedSource(folder)
    monkeypatch.setattr(readers, "PAUSES", (0.0, 0.0))
    opened, left = readers._open, [2]

    def failing(path):
        if left[0]:
            left[0] -= 1
            raise RuntimeError(f"open() failed: {os.strerror(code)}; opening {path}")
        return opened(path)

    monkeypatch.setattr(readers, "_open", failing)
    assert source[3]
    monkeypatch.setattr(readers, "_OPEN", readers._Open())
    left[0] = 3
    with pytest.raises(readers.MachineFault, match=f"{folder}.*{os.strerror(code)}, 3 times"):
        source[0]


def test_a_shard_that_is_cut_while_it_is_read_ends_by_name(tmp_path):
    """387 reads became bad records."""
    source = ShardedSource(write(tmp_path / "s", shards=1, records=400))
    (path,) = (tmp_path / "s").glob("*.array_record")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=f"{path}.*cut or replaced while it was read"):
        for index in range(len(source)):
            source[index]
