"""Random access to a folder of ArrayRecord shards."""

import hashlib
from pathlib import Path

from grain.sources import ArrayRecordDataSource

from data_pipelines.build.shards import MANIFEST, read_manifest
from data_pipelines.schema import Record, unpack


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
            files = [(Path(folder) / shard["name"], shard["bytes"]) for shard in shards]
            contents = [(shard["records"], shard["sha256"]) for shard in shards]
        except FileNotFoundError as error:
            raise ValueError(str(error)) from None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{Path(folder) / MANIFEST} is no manifest: {error!r}") from error
        if not files:
            raise ValueError(f"source {folder}: its manifest lists no records")
        for path, size in files:
            if not path.is_file():
                raise ValueError(f"shard {path}: missing, but named by its manifest")
            if path.stat().st_size != size:
                raise ValueError(
                    f"shard {path}: {path.stat().st_size} bytes, its manifest says {size}"
                    " (truncated?)"
                )
        self._records = _open([path for path, _ in files])
        listed = sum(records for records, _ in contents)
        if len(self._records) != listed:
            raise ValueError(
                f"source {folder}: {len(self._records)} records, its manifest says {listed}"
            )
        self.digest = hashlib.sha256(repr(contents).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> bytes:
        return self._records[index]


def _open(paths: list[Path]) -> ArrayRecordDataSource:
    try:
        return ArrayRecordDataSource([str(path) for path in paths])
    except Exception as error:  # of all files at once, and the message does not say which
        for path in paths:
            try:
                ArrayRecordDataSource([str(path)])
            except Exception as cause:
                raise ValueError(f"shard {path}: damaged: {cause}") from cause
        raise ValueError(f"shards {paths[0]} ..: {error}") from error


def read_records(folder: str | Path, *, limit: int) -> list[Record]:
    """The first records of a source in stored order, for evaluation."""
    source = ShardedSource(folder)
    return [unpack(source[index]) for index in range(min(limit, len(source)))]
