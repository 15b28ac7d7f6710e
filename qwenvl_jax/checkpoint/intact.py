"""Which step of a work directory to read: the newest whose files are those that were written.

A step's manifest is part of the same atomic rename as the step, so a whole step has one.
"""

import functools
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from qwenvl_jax.checkpoint import manifest


def steps(root: Path) -> list[int]:
    """The whole steps of a work directory, newest first."""
    names = (path.name for path in (root / "checkpoints").glob("*"))
    found = (int(name) for name in names if name.isdigit() and name == str(int(name)))
    return sorted(found, reverse=True)


def step_folder(root: Path, step: int) -> Path:
    """Where a step's files are."""
    return root / "checkpoints" / str(step)


def frozen_folder(root: Path, name: str) -> Path:
    """Where the frozen parameters are whose content hash is `name`."""
    return root / "frozen" / name


def read_meta(root: Path, step: int) -> dict[str, Any]:
    """A step's `step`, `frozen` (content hash or ""), `data`, `config` and `extra`."""
    return json.loads((step_folder(root, step) / "meta" / "metadata").read_text("utf-8"))


def newest_good(workdir: str | Path, *, verify: bool = True) -> int | None:
    """The newest step whose files are intact, for messages; None where there is none.

    It reads in this process alone, so any process of a job may call it at any time.

    Args:
      verify: False takes the newest step unread.
    """
    root = Path(workdir).absolute()
    good = (step for step in steps(root) if not verify or not damage(root, step))
    return next(good, None)


def newest(root: Path, *, verify: bool, frozen: bool = True) -> int:
    """The newest intact step; damaged newer ones are named in the log.

    Args:
      verify: False takes the newest step unread.
      frozen: whether the frozen parameters must be intact, too.

    Raises:
      ValueError: no step there, or none is intact; names what is damaged in each.
    """
    found = steps(root)
    if not found:
        raise ValueError(f"no checkpoint under {root}")
    if not verify:
        return found[0]
    reasons = []
    shared = functools.cache(lambda name: agreed_frozen_damage(root, name))  # read once
    for step in found:
        reason = agreed_damage(root, step)
        if not reason and frozen:
            reason = shared(read_meta(root, step)["frozen"])
            reason += reason and " (training this work directory again makes them anew)"
        if not reason:
            return step
        reasons.append(f"step {step}: {reason}")
        logging.warning("not read: step %d: %s", step, reason)
    raise ValueError(f"no intact checkpoint under {root}:\n  " + "\n  ".join(reasons))


def exact(root: Path, step: int, *, verify: bool) -> int:
    """The step that was asked for.

    Raises:
      ValueError: it is not there or damaged; lists the steps that are.
    """
    found = sorted(steps(root))
    listed = ", ".join(map(str, found)) or "none"
    if step not in found:
        raise ValueError(f"config.resume.step={step}: no such step under {root}; kept: {listed}")
    reason = agreed_damage(root, step) if verify else ""
    if reason:
        raise ValueError(f"config.resume.step={step} is damaged: {reason}; kept: {listed}")
    return step


def agreed_damage(root: Path, step: int) -> str:
    """`damage` as the first process sees it, on every process: all must read the same step."""
    return _agreed(damage(root, step) if jax.process_index() == 0 else "")


def agreed_frozen_damage(root: Path, name: str) -> str:
    """`frozen_damage` as the first process sees it, on every process."""
    return _agreed(frozen_damage(root, name) if jax.process_index() == 0 else "")


def _agreed(reason: str) -> str:
    if jax.process_count() == 1:
        return reason
    words = np.zeros(1024, np.uint8)
    encoded = reason.encode()[: len(words)]
    words[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    words = np.asarray(multihost_utils.broadcast_one_to_all(words), np.uint8)
    return words.tobytes().rstrip(b"\0").decode("utf-8", "replace")


def damage(root: Path, step: int) -> str:
    """What is wrong with a step's own files; "" if nothing."""
    return _damage(step_folder(root, step))


def frozen_damage(root: Path, name: str) -> str:
    """What is wrong with the frozen parameters of that name; "" if nothing or for no name."""
    return _damage(frozen_folder(root, name)) if name else ""


def _damage(folder: Path) -> str:
    try:
        manifest.verify(folder)
    except ValueError as error:
        return str(error)
    return ""


def set_aside(source: Path, folder: Path) -> Path:
    """Move `source` into `folder` under a name that is free there; returns the new path."""
    folder.mkdir(exist_ok=True)
    target, again = folder / source.name, 1
    while target.exists():
        target, again = folder / f"{source.name}.{again}", again + 1
    source.rename(target)
    return target


def set_newer_aside(root: Path, step: int, *, asked: bool) -> None:
    """Move every step newer than `step` away, so that its number is free.

    Args:
      asked: whether a user went back to `step`: the others go to `checkpoints-set-aside`. Otherwise
        they are damaged and go to `checkpoints-damaged`.
    """
    folder = root / ("checkpoints-set-aside" if asked else "checkpoints-damaged")
    for newer in sorted(s for s in steps(root) if s > step):
        target = set_aside(step_folder(root, newer), folder)
        logging.warning(
            "moved the %s step %d to %s", "newer" if asked else "damaged", newer, target
        )
