"""Write one source of unknown length: shards of about equal size, then their manifest."""

import os
from pathlib import Path
from typing import Any

from data_pipelines.build import shards
from data_pipelines.schema import Record, pack

SHARD_BYTES = 256 << 20  # a shard waits in memory until it is written


class SourceWriter:
    """Collect records, then `finish`; until then the folder has no manifest and is no source.

    An earlier source of that name in the folder is removed first.
    """

    def __init__(self, folder: Path, name: str, *, shard_bytes: int = SHARD_BYTES):
        self._folder, self._name, self._limit = folder, name, shard_bytes
        self._waiting: list[bytes] = []
        self._size = 0
        self._written: list[shards.ShardInfo] = []
        self.records = 0
        shards.clear(folder, name)

    def add(self, record: Record) -> None:
        data = pack(record)
        self._waiting.append(data)
        self._size += len(data)
        self.records += 1
        if self._size >= self._limit:
            self._flush()

    def _flush(self) -> None:
        # How many shards there will be is known at the end: names say 0 until then.
        name = shards.shard_name(self._name, index=len(self._written), count=0)
        self._written.append(shards.write_shard(self._folder / name, self._waiting))
        self._waiting, self._size = [], 0

    def finish(self, *, config: dict[str, Any], **metadata: Any) -> None:
        """Give the shards their final names and write the manifest."""
        if self._waiting:
            self._flush()
        final = []
        for index, info in enumerate(self._written):
            name = shards.shard_name(self._name, index=index, count=len(self._written))
            os.replace(self._folder / info.name, self._folder / name)
            final.append(info._replace(name=name))
        shards.write_manifest(self._folder, final, config=config, **metadata)
