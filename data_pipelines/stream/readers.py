"""Open shards, a bounded number at a time; a fault of the machine is told from a damaged record.

A fault (too many open files, a disk or network that does not answer) is tried again with growing
pauses and then ends the run with path and reason. Counted as a bad record it would leave out a part
of the data in silence.
"""

import errno
import os
import resource
import threading
import time
from collections import OrderedDict
from pathlib import Path

from absl import logging
from array_record.python.array_record_module import ArrayRecordReader

from qwenvl_jax.endings import Ending

PAUSES = (0.1, 0.5, 2.0, 5.0, 10.0)  # seconds before each further try
_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_FAULTS = (
    errno.EMFILE,
    errno.ENFILE,
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.ENOMEM,
    errno.ENOENT,
    errno.EACCES,
    errno.ENOTCONN,
    errno.ECONNRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EREMOTEIO,
)


class Damaged(Exception):
    """Bytes of a shard that are not those that were written."""


class MachineFault(Ending):
    """A shard that cannot be read."""


def raise_file_limit() -> None:
    """Let this process open as many files as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_open() -> int:
    """Shards that are open at once: half of the files that the process may open, 1,024 at most."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1024 if soft == resource.RLIM_INFINITY else max(min(soft // 2, 1024), 8)


class _Open:
    """Readers by path and inode, as a file that is built anew has the path of the old one; the
    least recently used ones are closed.
    """

    def __init__(self):
        self._readers: OrderedDict[tuple[Path, int, int], ArrayRecordReader] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, path: Path, place: int) -> bytes:
        about = path.stat()
        key = path, about.st_ino, about.st_mtime_ns
        with self._lock:
            reader = self._readers.pop(key, None)
            if reader is None:
                while len(self._readers) >= most_open():
                    self._readers.popitem(last=False)[1].close()
                reader = _open(path)
            data = reader.read([place])[0]  # a reader that fails is not kept
            self._readers[key] = reader
            return data


_OPEN = _Open()


def _open(path: Path) -> ArrayRecordReader:
    with path.open("rb"):  # whose errors are Python's, with their numbers
        pass
    reader = ArrayRecordReader(str(path), _OPTIONS)
    if not reader.ok():
        reader.read([0])  # raises what went wrong, but for a file without its end
        raise ValueError("no index of records: the file is empty or lacks its end")
    return reader


def open_shard(path: Path) -> ArrayRecordReader:
    """A reader of a shard, to be closed by who asked for it.

    Raises:
      Damaged, MachineFault: as for `read`.
    """
    return _again(path, lambda: _open(path))


def read(path: Path, place: int, *, size: int) -> bytes:
    """A record of a shard.

    Args:
      size: of the shard, in bytes.

    Raises:
      Damaged: the record is; the shard is as large as it was.
      MachineFault: the shard could not be read, however often it was tried.
      ValueError: the shard was cut or replaced.
    """
    try:
        return _again(path, lambda: _OPEN.read(path, place))
    except Damaged:
        now = path.stat().st_size
        if now != size:
            raise ValueError(
                f"shard {path}: {now} bytes, its manifest says {size}: it was cut or replaced while"
                " it was read"
            ) from None
        raise


def _again(path: Path, work):
    for pause in (*PAUSES, None):
        try:
            return work()
        except Exception as error:
            reason = fault(error)
            if reason is None:
                raise Damaged(str(error)) from error
            if pause is None:
                tries = len(PAUSES) + 1
                raise MachineFault(f"shard {path}: {reason}, {tries} times") from error
            logging.warning("shard %s: %s; tried again in %.1f s", path, reason, pause)
            time.sleep(pause)


def fault(error: Exception) -> str | None:
    """What the machine says, where an error tells of that; array_record gives it as text."""
    number = getattr(error, "errno", None)
    for code in _FAULTS:
        if number == code or os.strerror(code) in str(error):
            return os.strerror(code)
    return os.strerror(number) if number else None
