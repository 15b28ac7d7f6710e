"""MANIFEST.json: the sha256 of every file of a folder, so that damage has a name."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from absl import logging

from qwenvl_jax.checkpoint import atomic

NAME = "MANIFEST.json"
# Orbax stamps a checkpoint with its time after all else is written; nothing of ours is in these.
STAMPS = ("_CHECKPOINT_METADATA", "commit_success.txt")


class State(NamedTuple):
    """What tells a file as it is from any other and from itself before or after a write."""

    inode: int
    size: int
    changed: int  # nanoseconds


def state(path: Path) -> State:
    about = path.stat()
    return State(about.st_ino, about.st_size, about.st_mtime_ns)


def write(folder: str | Path, *, known: Mapping[State, str] = MappingProxyType({})) -> int:
    """Write down size and sha256 of every file below `folder`; returns the bytes of all.

    Args:
      known: sha256 of files that were hashed when they were written; the others are read.
    """
    folder = Path(folder)
    found = dict(sorted(_files(folder).items()))
    states = {name: state(path) for name, path in found.items()}
    digests = {name: known[about] for name, about in states.items() if about in known}
    rest = {name: path for name, path in found.items() if name not in digests}
    digests |= zip(rest, _digests(rest), strict=True)
    files = {name: {"size": states[name].size, "sha256": digests[name]} for name in found}
    text = json.dumps({"files": files}, indent=1) + "\n"
    atomic.write_text(folder / NAME, text)
    return len(text) + sum(about.size for about in states.values())


def verify(folder: str | Path, *, only: Collection[str] | None = None) -> list[str]:
    """Compare a folder with its manifest.

    A file that the manifest does not name (a backup tool's, `.nfs*`, `.DS_Store`) is no damage.
    Everything that was written is still there, and Orbax reads no other files.

    Args:
      only: names of the files to compare, where the folder may hold others that were added later.

    Returns:
      The names of files that the manifest does not name; a warning lists them, too.

    Raises:
      ValueError: no readable manifest, or a damaged or missing file; names it.
    """
    folder = Path(folder)
    try:
        expected = json.loads((folder / NAME).read_text("utf-8"))["files"]
        expected = {name: (int(x["size"]), str(x["sha256"])) for name, x in expected.items()}
    except (
        *(FileNotFoundError, NotADirectoryError, IsADirectoryError),
        *(ValueError, KeyError, TypeError, AttributeError),
    ):
        raise ValueError(f"{folder / NAME} is missing or damaged") from None
    found = _files(folder)
    if only is not None:
        expected = {name: about for name, about in expected.items() if name in only}
        found = {name: path for name, path in found.items() if name in only}
    for name in sorted(expected.keys() - found.keys()):
        raise ValueError(f"{folder / name} is missing; {NAME} names it")
    strays = sorted(found.keys() - expected.keys())
    if strays:
        logging.warning("not of the checkpoint, left alone: %s", _listed(folder, strays))
        found = {name: path for name, path in found.items() if name in expected}
    for name, (size, _) in sorted(expected.items()):
        if found[name].stat().st_size != size:
            actual = found[name].stat().st_size
            raise ValueError(f"{found[name]} is damaged: {actual} bytes, {size} were written")
    for name, digest in zip(found, _digests(found), strict=True):
        if digest != expected[name][1]:
            raise ValueError(f"{found[name]} is damaged: its sha256 is not the one in {NAME}")
    return strays


def _listed(folder: Path, names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(str(folder / name) for name in names[:5]) + more


def _files(folder: Path) -> dict[str, Path]:
    """Relative name -> file, of what is there; a manifest cannot name anything outside."""
    files = (path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: path for name, path in named.items() if name not in (NAME, *STAMPS)}


def _digests(files: dict[str, Path]) -> Iterator[str]:
    """The files' sha256, in their order; hashing leaves Python's lock, so threads share it."""
    with ThreadPoolExecutor() as pool:
        yield from pool.map(sha256, files.values())


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
