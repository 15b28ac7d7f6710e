"""Random access to a folder of ArrayRecord shards."""

from pathlib import Path

from grain.sources import ArrayRecordDataSource

from data_pipelines.build.shards import read_manifest
from data_pipelines.schema import Record, unpack


class ShardedSource:
    """Serialised records of one source, by index. Pickles as its list of files.

    Raises:
      ValueError: no finished source in the folder, no records, or a shard that is missing or not of
      the size that the
        manifest gives; the message names the file.
    """

    def __init__(self, folder: str | Path):
        try:
            manifest = read_manifest(Path(folder))
        except FileNotFoundError as error:
            raise ValueError(str(error)) from None
        paths = [Path(folder) / shard["name"] for shard in manifest["shards"] if shard["records"]]
        if not paths:
            raise ValueError(f"source {folder}: its manifest lists no records")
        for path, shard in zip(paths, [s for s in manifest["shards"] if s["records"]], strict=True):
            if not path.is_file():
                raise ValueError(f"shard {path}: missing, but named by its manifest")
            if path.stat().st_size != shard["bytes"]:
                raise ValueError(
                    f"shard {path}: {path.stat().st_size} bytes, its manifest says {shard['bytes']}"
                    " (truncated?)"
                )
        self._records = ArrayRecordDataSource([str(path) for path in paths])
        if len(self._records) != manifest["records"]:
            raise ValueError(
                f"source {folder}: {len(self._records)} records,"
                f" its manifest says {manifest['records']}"
            )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> bytes:
        return self._records[index]


def read_records(folder: str | Path, *, limit: int) -> list[Record]:
    """The first records of a source in stored order, for evaluation."""
    source = ShardedSource(folder)
    return [unpack(source[index]) for index in range(min(limit, len(source)))]
