"""Which step of a work directory is intact: the newest whose files and content are what was saved.

A step's manifest is written once its asynchronous save has ended; a save whose process was killed
before that has none, and is judged by whether it can be read and by its content hashes.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from qwenvl_jax.checkpoint import manifest

T = TypeVar("T")


class Damaged(ValueError):
    """What is on disk is not what was saved."""


def steps(root: Path) -> list[int]:
    """The whole steps of a work directory, newest first."""
    names = (path.name for path in (root / "checkpoints").glob("*"))
    return sorted((int(name) for name in names if name.isdigit()), reverse=True)


def restore_newest(root: Path, read: Callable[[int], T], *, verify: bool = True) -> T:
    """What `read` makes of the newest intact step; the log names what is damaged in newer ones.

    Args:
      read: step -> its content; raises Damaged where that is not what was saved.
      verify: False reads the newest step as it is.

    Raises:
      ValueError: no step is intact, or `read` refuses one for another reason than damage.
    """
    found = steps(root)
    reasons = []
    for step in found:
        try:
            if verify:
                _check_files(root, step)
            return read(step)
        except Damaged as error:
            if not verify:
                raise
            reasons.append(str(error))
            logging.warning("step %d is damaged, trying an older one: %s", step, error)
    raise Damaged(f"{root}: no intact checkpoint among steps {found}:\n  " + "\n  ".join(reasons))


def _check_files(root: Path, step: int) -> None:
    """One process reads the files, all take its word: hosts must agree on the step."""
    reason = _damage(root, step) if jax.process_index() == 0 else ""
    if jax.process_count() > 1:
        words = np.zeros(1024, np.uint8)
        encoded = reason.encode()[: len(words)]
        words[: len(encoded)] = np.frombuffer(encoded, np.uint8)
        words = np.asarray(multihost_utils.broadcast_one_to_all(words), np.uint8)
        reason = words.tobytes().rstrip(b"\0").decode("utf-8", "replace")
    if reason:
        raise Damaged(reason)


def _damage(root: Path, step: int) -> str:
    where = root / "checkpoints" / str(step)
    meta = where / "meta" / "metadata"
    try:
        if (where / manifest.NAME).exists():
            manifest.verify(where)
        frozen = json.loads(meta.read_text("utf-8"))["frozen"]
        if frozen and (root / "frozen" / frozen / manifest.NAME).exists():
            manifest.verify(root / "frozen" / frozen)
    except manifest.Mismatch as error:
        return str(error)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{meta} is damaged: {error}"
    return ""


def set_aside(root: Path, step: int) -> None:
    """Move every step newer than `step` to checkpoints-damaged, so that its number is free."""
    folder = root / "checkpoints-damaged"
    for newer in (s for s in steps(root) if s > step):
        folder.mkdir(exist_ok=True)
        target, again = folder / str(newer), 1
        while target.exists():
            target, again = folder / f"{newer}.{again}", again + 1
        (root / "checkpoints" / str(newer)).rename(target)
        logging.warning("moved the damaged step %d to %s", newer, target)
