"""Which step of a work directory to read: the newest whose files are those that were written.

A step's manifest is part of the same atomic rename as the step, so a whole step has one.
"""

import json
from pathlib import Path

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from qwenvl_jax.checkpoint import manifest


def steps(root: Path) -> list[int]:
    """The whole steps of a work directory, newest first."""
    names = (path.name for path in (root / "checkpoints").glob("*"))
    return sorted((int(name) for name in names if name.isdigit()), reverse=True)


def newest(root: Path, *, verify: bool) -> int:
    """The newest intact step; damaged newer ones are named in the log.

    Args:
      verify: False takes the newest step unread.

    Raises:
      ValueError: no step there, or none is intact; names what is damaged in each.
    """
    found = steps(root)
    if not found:
        raise ValueError(f"no checkpoint under {root}")
    if not verify:
        return found[0]
    reasons = []
    for step in found:
        reason = _agreed(_damage(root, step) if jax.process_index() == 0 else "")
        if not reason:
            return step
        reasons.append(f"step {step}: {reason}")
        logging.warning("not read: step %d: %s", step, reason)
    raise ValueError(f"no intact checkpoint under {root}:\n  " + "\n  ".join(reasons))


def _agreed(reason: str) -> str:
    """The first process's word on every host: all must read the same step."""
    if jax.process_count() == 1:
        return reason
    words = np.zeros(1024, np.uint8)
    encoded = reason.encode()[: len(words)]
    words[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    words = np.asarray(multihost_utils.broadcast_one_to_all(words), np.uint8)
    return words.tobytes().rstrip(b"\0").decode("utf-8", "replace")


def _damage(root: Path, step: int) -> str:
    """What is wrong with a step's files or those of the frozen weights it names; "" if nothing."""
    where = root / "checkpoints" / str(step)
    try:
        manifest.verify(where)
        frozen = json.loads((where / "meta" / "metadata").read_text("utf-8"))["frozen"]
        if frozen:
            manifest.verify(root / "frozen" / frozen)
    except ValueError as error:
        return str(error)
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
