"""Random access to a folder of ArrayRecord shards."""

import bisect
import hashlib
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data_pipelines.build.shards import MANIFEST, read_manifest
from data_pipelines.schema import Record, unpack
from data_pipelines.stream.readers import Damaged, open_shard, read

_THREADS = 16  # that look at shards when a source is opened


class ShardedSource:
    """Serialised records of one source, by index. Pickles as its list of files.

    `digest` tells what records it holds and in which order: it is the same after a move, another
    after a rebuild.

    Raises:
      ValueError: no finished source in the folder, no records, or a shard that is missing, damaged
        or not of the size that the manifest gives; the message names the file.
    """

    def __init__(self, folder: str | Path):
        try:
            manifest = read_manifest(Path(folder))
            shards = [shard for shard in manifest["shards"] if shard["records"]]
            self._files = [
                (Path(folder) / shard["name"], int(shard["bytes"]), int(shard["records"]))
                for shard in shards
            ]
            contents = [(shard["records"], shard["sha256"]) for shard in shards]
        except FileNotFoundError as error:
            raise ValueError(str(error)) from None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{Path(folder) / MANIFEST} is no manifest: {error!r}") from error
        if not self._files:
            raise ValueError(f"source {folder}: its manifest lists no records")
        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(lambda file: _look(*file), self._files):
                pass
        self._ends = list(itertools.accumulate(records for _, _, records in self._files))
        self.digest = hashlib.sha256(repr(contents).encode()).hexdigest()

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> bytes:
        """
        Raises:
          Damaged: the record's bytes are not those that were written.
          MachineFault: the shard cannot be read, though it was tried again and again.
          ValueError: the shard was cut or replaced since the source was opened.
        """
        number = bisect.bisect_right(self._ends, index)
        path, size, records = self._files[number]
        place = index - (self._ends[number] - records)
        return read(path, place, size=size)


def _look(path: Path, size: int, records: int) -> None:
    """Raises ValueError where a shard is not what its manifest says."""
    if not path.is_file():
        raise ValueError(f"shard {path}: missing, but named by its manifest")
    if path.stat().st_size != size:
        raise ValueError(
            f"shard {path}: {path.stat().st_size} bytes, its manifest says {size} (truncated?)"
        )
    try:
        reader = open_shard(path)
        found = reader.num_records()
        reader.close()
    except Damaged as error:
        raise ValueError(f"shard {path}: damaged: {error}") from error
    if found != records:
        raise ValueError(f"shard {path}: {found} records, its manifest says {records}")


def read_records(folder: str | Path, *, limit: int) -> list[Record]:
    """The first records of a source in stored order, for evaluation."""
    source = ShardedSource(folder)
    return [unpack(source[index]) for index in range(min(limit, len(source)))]
