"""Signals that ask a run to end: SIGTERM (preemption, scancel), SIGINT (Ctrl-C), SIGUSR1 (Slurm's
warning).

    while it starts     ends at once: nothing is lost, as a start begins where the last save ended
    in the loop         saves at the next boundary, then ends
    a second signal     ends at once

All with the code `AGAIN`: the same command resumes the run. A thread reads the signals from a pipe
that Python's C handler fills, since the main thread may sit in a compile for minutes.

In a job of several processes one notice is enough. Boundaries come in the same order in all of
them. None is more than one boundary ahead of another, as each waits for the metrics of the step
before the last. Process 0 sees the notice at its boundary t and makes t + 2 the last one, before it
takes part in the step that another needs to get there.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import jax
from jax._src import distributed

from qwenvl_jax.endings import AGAIN, Ending

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_NOTICE, _LAST = "qwenvl/stop/notice", "qwenvl/stop/last"


class Stopped(Ending):
    """The run was asked to end and has saved what it could."""

    code = AGAIN

    def __init__(self, why: str, step: int, workdir: str | Path, *, saved: int | None):
        kept = f"step {saved} is saved in {workdir}" if saved else f"nothing is saved in {workdir}"
        super().__init__(f"stopped by {why} at step {step}; {kept}; the same command goes on")


class Stop:
    """Takes the signals from `__enter__` to `__exit__`; to be entered in the main thread."""

    def __init__(self):
        self._notice = ""  # who asked; empty: nobody
        self._in_loop = False
        self._boundary, self._last = 0, None
        self.ended = False  # whether `boundary` has said so
        self._client = distributed.global_state.client if jax.process_count() > 1 else None

    def __enter__(self) -> "Stop":
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._wakeup = signal.set_wakeup_fd(self._write)
        self._before = {number: signal.signal(number, _wait) for number in SIGNALS}
        threading.Thread(target=self._listen, name="signals", daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._write)  # ends the thread

    def _listen(self) -> None:
        while byte := os.read(self._read, 1):
            if byte[0] not in SIGNALS:
                continue
            name = signal.Signals(byte[0]).name
            if self._notice or not self._in_loop:
                when = "again" if self._notice else "at the start"
                print(f"\nrun: stopped by {name} {when}; the same command goes on", file=sys.stderr)
                sys.stderr.flush()
                os._exit(AGAIN)
            if self._client:
                name += f" to process {jax.process_index()}"
                self._client.key_value_set(_NOTICE, name, allow_overwrite=True)
            self._notice = name
            print(f"\nrun: {name}: saving at the next step, then ending", file=sys.stderr)
        os.close(self._read)

    @property
    def why(self) -> str:
        """Who asked first."""
        return self._notice

    def loop(self) -> None:
        """From here on a signal waits for the next boundary."""
        self._in_loop = True

    def boundary(self) -> bool:
        """Whether the run is to end here; called in every process at the same places, after the
        results of the place before the last have come.
        """
        self._boundary += 1
        if self._client is None:
            self.ended = bool(self._notice)
            return self.ended
        if jax.process_index() == 0 and self._last is None:
            self._notice = self._notice or _get(self._client, _NOTICE)
            if self._notice:
                self._last = self._boundary + 2
                self._client.key_value_set(_LAST, f"{self._last} {self._notice}")
        elif self._last is None and (said := _get(self._client, _LAST)):
            last, self._notice = said.split(" ", 1)
            self._last = int(last)
        self.ended = self._last is not None and self._boundary >= self._last
        return self.ended


def _get(client, key: str) -> str:
    try:
        return client.key_value_try_get(key)
    except jax.errors.JaxRuntimeError as error:
        if "NOT_FOUND" not in str(error):
            raise
        return ""


def _wait(number: int, frame: FrameType | None) -> None:
    """Python's own handler: the thread that reads the pipe does the work."""
