"""Shards compared with the sha256 in their manifests, in the background of a run that reads them.

Opening a source compares names and sizes alone: hashing terabytes takes hours. Another file of
equal size would be trained on as if it were the shard that the run started with. A flipped bit is
something else: array_record finds it, the record is skipped, and here the shard gets its name.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

from absl import logging
from grain.sources import ArrayRecordDataSource

from data_pipelines.build.shards import read_manifest, sha256_of


class ShardCheck:
    """Hashes shards in a thread of its own, one after the other."""

    def __init__(self, folders: Sequence[str | Path], *, mine: Sequence[int], of: int):
        """Begin.

        Args:
          folders: of the sources.
          mine, of: every shard has a number modulo `of`; those whose number is in `mine` are
            hashed. So the processes of a job share the work.
        """
        listed = [
            (Path(folder) / shard["name"], shard["sha256"])
            for folder in folders
            for shard in read_manifest(Path(folder))["shards"]
        ]
        self._shards = [one for number, one in enumerate(listed) if number % of in set(mine)]
        self._wrong: Exception | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shard check", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for path, digest in self._shards:
            if self._stopped.is_set():
                return
            try:
                if sha256_of(path) != digest:
                    self._compare(path)
            except (OSError, ValueError) as error:  # raised where the batches are taken
                self._wrong = error
                return
        if self._shards:
            logging.info("%d shards are those of their manifests", len(self._shards))

    def _compare(self, path: Path) -> None:
        """Of a shard whose sha256 is wrong.

        Raises:
          ValueError: all of its records can be read, so it is another shard.
        """
        unreadable = _unreadable(path)
        if not unreadable:
            raise ValueError(
                f"shard {path} is not the one that its manifest names: its sha256 is another, and"
                " all of its records can be read. Put the shard back;"
                " config.data.verify=False trains on this one"
            )
        logging.warning(
            "shard %s is damaged: %d of its records cannot be read and are skipped",
            path,
            unreadable,
        )

    def raise_wrong(self) -> None:
        """Raise what was found so far.

        Raises:
          ValueError: another shard in place of one; names it.
          OSError: a shard could not be read.
        """
        if self._wrong is not None:
            raise self._wrong

    def close(self) -> None:
        """Hash no further shard."""
        self._stopped.set()


def _unreadable(path: Path) -> int:
    """How many records of a shard are damaged, at least 1 where none can be reached."""
    try:
        records = ArrayRecordDataSource([str(path)])
        return sum(not _reads(records, index) for index in range(len(records)))
    except Exception:  # noqa: BLE001 - array_record raises what it likes for a damaged index
        return 1


def _reads(records: ArrayRecordDataSource, index: int) -> bool:
    try:
        records[index]
    except Exception:  # noqa: BLE001 - as above
        return False
    return True
