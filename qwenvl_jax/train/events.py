"""`events.jsonl`: what happened to a run, in the order in which it happened.

Unlike `metrics.jsonl`, which is cut back at a resume so that it equals an uninterrupted run's, this
file only grows: starts, resumes, skipped steps, stalls and ends stay on record.
"""

import datetime
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

NAME = "events.jsonl"


class Events:
    """Appends to a work directory's `events.jsonl`; only the first process of a job writes."""

    def __init__(self, workdir: Path):
        self._workdir, self._path = workdir, workdir / NAME
        self._main = jax.process_index() == 0

    def write(self, event: str, step: int, **about: Any) -> None:
        """Add a line: the time, the event, the step that it happened at, and what it is `about`."""
        if not self._main:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        line = json.dumps({"time": now, "event": event, "step": step, **about})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def finished(self, step: int) -> bool:
        """Whether the run has ended at a step and nothing happened since; every process of a job
        takes the first one's word.
        """
        last = read(self._workdir)[-1:] if self._main else []
        ended = any((e.get("event"), e.get("step")) == ("finished", step) for e in last)
        return bool(multihost_utils.broadcast_one_to_all(np.int32(ended)))


def read(workdir: Path) -> list[dict[str, Any]]:
    """The events of a work directory; none where it has no such file. A line that a kill cut off is
    left out.
    """
    path = workdir / NAME
    found = []
    for line in path.read_text("utf-8", "replace").splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found
