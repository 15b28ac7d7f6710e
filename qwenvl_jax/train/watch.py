"""A thread that says when a run stands still, and which process of a job is late or gone.

    no step for long     a line in the log, an event, the stacks of all threads in WORKDIR/stalls
    a process is gone    a line that names it, and the others end with `AGAIN`

Each process of a job writes a beat and its step into the coordination service's store. A beat comes
from a thread, so a process that compiles still beats.
"""

import faulthandler
import os
import statistics
import sys
import threading
import time
from collections import deque
from pathlib import Path

import jax
from absl import logging
from jax._src import distributed

from qwenvl_jax.endings import AGAIN
from qwenvl_jax.train.events import Events

TIMES, LEAST = 10, 300.0  # medians of a step, and seconds, without a step: it stands still
BEAT, GONE = 5.0, 60.0  # seconds between two beats, and without one
_KEY = "qwenvl/alive"
_DONE = "done"


class Watch:
    """Watches from `__enter__` to `__exit__`; `step` tells it of a step that was dispatched."""

    def __init__(self, workdir: Path, events: Events):
        self._workdir, self._events = workdir, events
        self._client = distributed.global_state.client if jax.process_count() > 1 else None
        self._me, self._processes = jax.process_index(), jax.process_count()
        self._took: deque[float] = deque(maxlen=100)
        self._step, self._last, self._told = -1, time.monotonic(), False
        self._stop = threading.Event()

    def __enter__(self) -> "Watch":
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        if kind and self._client:
            return  # another process may be why, and what follows may wait for it: watch on
        self._stop.set()
        self._thread.join()
        if self._client:
            try:
                self._client.key_value_set(f"{_KEY}/{self._me}", _DONE, allow_overwrite=True)
            except jax.errors.JaxRuntimeError as error:
                logging.warning("the job's first process is gone: %s", str(error).splitlines()[0])

    def step(self, step: int) -> None:
        """Step `step` was dispatched, so the one before the last is done."""
        now = time.monotonic()
        if self._step >= 0:
            self._took.append(now - self._last)
        self._step, self._last, self._told = step, now, False

    def other(self) -> None:
        """Something that is no step is done: a save, an evaluation, a batch of one."""
        self._last = time.monotonic()

    def _run(self) -> None:
        beats, seen = 0, {i: ("", time.monotonic()) for i in range(self._processes)}
        while not self._stop.wait(BEAT):
            beats += 1
            if self._client:
                self._look_at_others(f"{beats} {self._step}", seen)
            limit = max(LEAST, TIMES * statistics.median(self._took)) if self._took else None
            stood = time.monotonic() - self._last
            if limit and stood > limit and not self._told:
                self._told = True
                self._tell(stood, seen)

    def _look_at_others(self, mine: str, seen: dict[int, tuple[str, float]]) -> None:
        now = time.monotonic()
        try:
            self._client.key_value_set(f"{_KEY}/{self._me}", mine, allow_overwrite=True)
            found = dict(self._client.key_value_dir_get(_KEY))
        except jax.errors.JaxRuntimeError:
            found = None
        if found is None:
            if now - seen[0][1] > GONE:
                self._end(0)
            return
        seen[0] = (seen[0][0], now)
        for key, value in found.items():
            number = int(key.rsplit("/", 1)[-1])
            if value != seen[number][0] or value == _DONE:
                seen[number] = (value, now)
        for number, (value, since) in seen.items():
            if value and now - since > GONE:
                self._end(number)

    def _end(self, number: int) -> None:
        print(
            f"run: process {number} of {self._processes} has died: no sign of it for {GONE:.0f} s;"
            f" process {self._me} ends at step {self._step}; the same command goes on",
            file=sys.stderr,
            flush=True,
        )
        os._exit(AGAIN)

    def _tell(self, stood: float, seen: dict[int, tuple[str, float]]) -> None:
        folder = self._workdir / "stalls"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"step{self._step}.process{self._me}.txt"
        with path.open("w") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        steps = {
            number: int(value.split()[1]) for number, (value, _) in seen.items() if " " in value
        }
        last = min(steps.values(), default=self._step)
        late = [number for number, step in steps.items() if step == last]
        who = f"; furthest behind: process {late} at step {last}" if late else ""
        logging.warning(
            "no step for %.0f s after step %d%s; stacks of all threads: %s",
            stood,
            self._step,
            who,
            path,
        )
        self._events.write("stalled", self._step, seconds=round(stood), late=late)
