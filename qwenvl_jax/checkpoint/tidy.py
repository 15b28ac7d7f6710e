"""Deletes old checkpoints, each only after newer ones were compared with their manifests."""

import json
import math
import shutil
import threading
from pathlib import Path
from typing import Any

from absl import logging

from qwenvl_jax.checkpoint import atomic, intact, policy, room
from qwenvl_jax.checkpoint.policy import CheckpointConfig

NAME = "heldout.json"  # of the held-out losses of kept steps, in the work directory
DELETING = "checkpoints-deleting"  # what a killed deletion leaves there is no step


def remove_unfinished(root: Path, name: str) -> None:
    """Remove what a save of that name (a step, a content hash, `*`) left when it was killed or
    failed; Orbax itself never does.
    """
    for folder in (root / "checkpoints", root / "frozen"):
        for leftover in folder.glob(f"{name}.orbax-checkpoint-tmp*"):
            logging.warning("removing an unfinished save: %s", leftover)
            shutil.rmtree(leftover)


class Tidy:
    """What stays of a work directory's steps. Of a job's processes, the first alone has one.

    `heldout.json` holds the losses: `{"losses": {"120": 2.31}, "spared": []}`. Where that file is
    damaged, the steps that exist are spared: one of them is the best, and nobody knows which.
    """

    def __init__(self, root: Path, config: CheckpointConfig):
        self._root, self._config = root, config
        self._verified: set[int] = set()
        self._damaged: set[int] = set()
        self._lock = threading.Lock()
        self._losses, self._spared = self._read()
        if self._spared:
            self._write()
        shutil.rmtree(root / DELETING, ignore_errors=True)

    def scored(self, step: int, loss: float) -> None:
        """Note a step's held-out loss; one that is not finite never is the best."""
        with self._lock:
            if not math.isfinite(loss):
                logging.warning("step %d: held-out loss %s, so it is not the best", step, loss)
                self._losses.pop(step, None)
            else:
                self._losses[step] = float(loss)
            self._write()

    def restored(self, step: int, *, verified: bool) -> None:
        """A run goes on at `step`: losses of later steps are of steps that are gone."""
        with self._lock:
            self._losses = {s: loss for s, loss in self._losses.items() if s <= step}
            self._verified |= {step} if verified else set()
            self._write()

    def prune(self) -> None:
        """Delete the steps that need not stay; takes as long as reading a step or two.

        The newest and the best of the steps that stay are compared with their manifests first, each
        once. A damaged step counts as none: it stays where it is, and another stays in its place.
        Where the disk fails, old steps stay and the log says so: that costs space, not the run.
        """
        try:
            self._prune()
        except OSError as error:
            logging.error("old steps could not be deleted: %s", error)

    def _prune(self) -> None:
        while True:
            with self._lock:
                losses = dict(self._losses)
            there = [s for s in intact.steps(self._root) if s not in self._damaged]
            stay = policy.stay(there, self._config, losses)
            doomed = sorted(set(there) - stay - self._spared)
            if not doomed:
                return
            best = policy.best(there, losses) if self._config.keep_best else None
            if self._verify({max(there), best} - {None} - self._verified):
                break
        for step in doomed:
            self._delete(step)
        shutil.rmtree(self._root / DELETING, ignore_errors=True)
        with self._lock:
            self._losses = {s: x for s, x in self._losses.items() if s not in doomed}
            self._write()

    def _verify(self, steps: set[int]) -> bool:
        """Whether all are intact; those that are not are known as damaged from then on."""
        for step in steps:
            reason = intact.damage(self._root, step)
            if reason:
                logging.error("step %d is damaged, so older steps stay: %s", step, reason)
                self._damaged.add(step)
            else:
                self._verified.add(step)
        return not steps & self._damaged

    def _delete(self, step: int) -> None:
        """First by a rename: a step that is half deleted must not look like a step."""
        shutil.rmtree(intact.set_aside(intact.step_folder(self._root, step), self._root / DELETING))
        logging.info("deleted step %d", step)

    def _read(self) -> tuple[dict[int, float], set[int]]:
        path = self._root / NAME
        if not path.exists():
            return {}, set()
        try:
            plain: dict[str, Any] = json.loads(path.read_text("utf-8"))
            losses = {int(step): float(loss) for step, loss in plain["losses"].items()}
            return losses, {int(step) for step in plain["spared"]}
        except (ValueError, KeyError, TypeError, AttributeError):
            spared = set(intact.steps(self._root))
            aside = intact.set_aside(path, self._root / "checkpoints-damaged")
            logging.warning(
                "%s was damaged and is now %s; the best step is not known, so these stay: %s",
                path,
                aside,
                sorted(spared),
            )
            return {}, spared

    def _write(self) -> None:
        losses = {str(step): self._losses[step] for step in sorted(self._losses)}
        plain = {"losses": losses, "spared": sorted(self._spared)}
        text = json.dumps(plain, allow_nan=False) + "\n"
        with room.writing(NAME, self._root, len(text)):
            atomic.write_text(self._root / NAME, text)
