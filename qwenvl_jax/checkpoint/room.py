"""Room on a disk: what checkpoints need, what is free, and one line when writing fails."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import intact
from qwenvl_jax.endings import Ending

_OVERHEAD = 1 << 20  # bytes of a step beside its arrays: metadata, manifest, parts of blocks
_FULL = (errno.ENOSPC, errno.EDQUOT)
_BROKEN = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EFBIG)


class CannotWrite(Ending, OSError):
    """A disk refuses what is to be written; the message is one line with place and reason."""

    def __init__(self, what: str, place: Path, code: int, detail: str):
        """
        Args:
          what, place, detail: as for `DiskFull`.
          code: the error number.
        """
        text = f"cannot write on {place}: {what}: {os.strerror(code)}; {detail}"
        super().__init__(code, text, str(place))

    def __str__(self) -> str:
        return self.strerror


class DiskFull(CannotWrite):
    """No space for what is to be written; the message is one line with place, needed and free."""

    def __init__(self, what: str, place: Path, needed: int, detail: str):
        """
        Args:
          what: the thing that needs the space, for example `step 4`.
          place: the folder that should hold it.
          needed: bytes.
          detail: what else a reader should know.
        """
        text = _message(what, place, needed, detail)
        OSError.__init__(self, errno.ENOSPC, text, str(place))


def _message(what: str, place: Path, needed: int, detail: str) -> str:
    free = size(free_bytes(place))
    return f"no space left on {place}: {what} needs {size(needed)}, {free} are free; {detail}"


def size(number: int) -> str:
    """`1_234_567` -> `1,234,567 bytes (1.2 MB)`."""
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB")):
        if number >= 10**power:
            return f"{number:,} bytes ({number / 10**power:.1f} {unit})"
    return f"{number:,} bytes"


def needed_bytes(*shapes: trees.Tree) -> int:
    """Bytes of all arrays of some trees (of arrays or ShapeDtypeStructs)."""
    leaves = jax.tree.leaves(shapes)
    return sum(int(np.prod(x.shape, dtype=np.int64)) * np.dtype(x.dtype).itemsize for x in leaves)


def free_bytes(path: str | Path) -> int:
    """Bytes that this user may still write where `path` is or will be."""
    path = Path(path).absolute()
    while not path.exists():
        path = path.parent
    about = os.statvfs(path)
    return about.f_bavail * about.f_frsize


def room(root: str | Path, step_bytes: int, frozen_bytes: int, keep: int) -> None:
    """Check that a work directory's disk has room for the checkpoints that will be there at once.

    Steps and frozen weights that are there already count as written.

    Args:
      step_bytes: of one step's parameters and moments, as `needed_bytes` counts them.
      frozen_bytes: of the frozen parameters.
      keep: the number of steps that stay (`CheckpointConfig.most`). One more is counted: a step is
        deleted only after a newer one is complete.

    Raises:
      ValueError: the disk has less free; names place, needed and free bytes.
    """
    root = Path(root).absolute()
    there = len(intact.steps(root))
    if any((root / "frozen").glob("*/MANIFEST.json")):
        frozen_bytes = 0
    steps = max(keep + 1 - there, 1)
    needed = steps * (step_bytes + _OVERHEAD) + frozen_bytes
    if needed > free_bytes(root):
        what = f"room for {steps} checkpoints{' and frozen parameters' if frozen_bytes else ''}"
        keys = "config.checkpoint.keep, .keep_every and .keep_best decide how many stay"
        raise ValueError(_message(what, root, needed, keys))


@contextlib.contextmanager
def writing(
    what: str,
    place: Path,
    needed: int,
    *,
    tidy: Callable[[], str] = lambda: "what was there is as it was",
) -> Iterator[None]:
    """Say in one line that a disk refuses a write, in place of what a library makes of it.

    Args:
      what, place, needed: as for `DiskFull`.
      tidy: called first where the write failed, to remove what was half written; returns what else
        the message should say.

    Raises:
      DiskFull: the block failed because the disk, or a quota, is full.
      CannotWrite: it is read-only, or broken in another way. Other errors are raised as they are.
    """
    try:
        yield
    except CannotWrite:
        raise
    except Exception as error:
        code = refused(error)
        if not code:
            raise
        detail = tidy()
        if code in _FULL:
            raise DiskFull(what, place, needed, detail) from error
        raise CannotWrite(what, place, code, detail) from error


def refused(error: BaseException) -> int | None:
    """The number of the disk's error that an error, or one that led to it, tells of; else None.

    TensorStore reports a file's error as text. A device without memory says RESOURCE_EXHAUSTED as
    a full disk does, so that word alone tells nothing.
    """
    for one in _chain(error):
        for code in (*_FULL, *_BROKEN):
            if getattr(one, "errno", None) == code or os.strerror(code) in str(one):
                return code
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and every error behind it, each once."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
