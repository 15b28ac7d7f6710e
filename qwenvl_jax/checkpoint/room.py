"""Room on a disk: what checkpoints need, what is free, and the error when a disk is full."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import intact

_FULL = (errno.ENOSPC, errno.EDQUOT)
# TensorStore reports a file's error as text. A device without memory says RESOURCE_EXHAUSTED too.
_FULL_TEXTS = ("No space left on device", "ENOSPC", "Disk quota exceeded", "EDQUOT")


class DiskFull(OSError):
    """No space for what is to be written; the message is one line with place, needed and free."""

    def __init__(self, what: str, place: Path, needed: int, detail: str):
        """
        Args:
          what: the thing that needs the space, for example `step 4`.
          place: the folder that should hold it.
          needed: bytes.
          detail: what else a reader should know.
        """
        super().__init__(errno.ENOSPC, _message(what, place, needed, detail), str(place))

    def __str__(self) -> str:
        return self.strerror


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
    needed = steps * step_bytes + frozen_bytes
    if needed > free_bytes(root):
        what = f"room for {steps} checkpoints{' and frozen parameters' if frozen_bytes else ''}"
        keys = "config.checkpoint.keep, .keep_every and .keep_best decide how many stay"
        raise ValueError(_message(what, root, needed, keys))


@contextlib.contextmanager
def full_disk(
    what: str,
    place: Path,
    needed: int,
    *,
    tidy: Callable[[], str] = lambda: "what was there is as it was",
) -> Iterator[None]:
    """Say in one line that a disk is full, in place of whatever error a library makes of it.

    Args:
      what, place, needed: as for `DiskFull`.
      tidy: called first where the disk is full, to remove what was half written; returns what else
        the message should say.

    Raises:
      DiskFull: the block failed as the disk is full. Other errors are raised as they are.
    """
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        if not is_full(error):
            raise
        raise DiskFull(what, place, needed, tidy()) from error


def is_full(error: BaseException) -> bool:
    """Whether a full disk (or quota) is what an error, or one that led to it, tells of."""
    return any(
        getattr(one, "errno", None) in _FULL or any(text in str(one) for text in _FULL_TEXTS)
        for one in _chain(error)
    )


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
