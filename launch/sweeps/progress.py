"""Where every run of a sweep stands, read from its files, and a display of it while they work."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from launch.sweeps.plan import Run

State = Literal["waiting", "broken", "running", "finished", "failed"]
DONE, FAILED, LOG = "done.json", "failed.json", "log.txt"


class Standing(NamedTuple):
    state: State
    step: int  # steps done
    loss: float | None  # of the last step
    error: str = ""  # of a failed run


def standing(run: Run, *, running: bool = False) -> Standing:
    """A run that has begun and is neither finished nor failed nor running is broken."""
    step, loss = _last_step(run.folder / "metrics.jsonl")
    if (run.folder / DONE).is_file():
        return Standing("finished", run.steps, loss)
    if running:
        return Standing("running", step, loss)
    if (run.folder / FAILED).is_file():
        failed = json.loads((run.folder / FAILED).read_text("utf-8"))
        return Standing("failed", step, loss, failed["error"])
    return Standing("broken" if run.folder.exists() else "waiting", step, loss)


def _last_step(path: Path) -> tuple[int, float | None]:
    """Of the end of a log, however long it is; (0, None) before its first whole line."""
    if not path.is_file():
        return 0, None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 20_000))
        lines = file.read().splitlines()
    for line in reversed(lines):
        try:
            values = json.loads(line)
            return values["step"] + 1, values["loss"]
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
            continue  # cut off at either end, or a line of held-out losses
    return 0, None


class Display:
    """A line a run on a terminal, redrawn; elsewhere one line for all, every half minute."""

    def __init__(self, runs: Sequence[Run]):
        self._runs, self._start, self._drawn = runs, time.monotonic(), 0
        self._terminal = sys.stderr.isatty()
        self._every, self._last = (1.0 if self._terminal else 30.0), float("-inf")
        self._before = sum(standing(run).step for run in runs)

    def update(self, active: set[str], *, now: bool = False) -> None:
        """Show where the runs stand, if it is time; `active` are the names of those at work."""
        clock = time.monotonic()
        if clock - self._last < self._every and not now:
            return
        self._last = clock
        states = [standing(run, running=run.name in active) for run in self._runs]
        total = self._total(states)
        lines = [total]
        if self._terminal:
            width = max(len(run.name) for run in self._runs)
            lines += [_line(run, state, width) for run, state in zip(self._runs, states)]
            if self._drawn:
                sys.stderr.write(f"\033[{self._drawn}A\033[J")
        sys.stderr.write("\n".join(lines) + "\n")
        sys.stderr.flush()
        self._drawn = len(lines) if self._terminal else 0

    def note(self, text: str) -> None:
        """Say something that stays."""
        sys.stderr.write(f"{text}\n")
        self._drawn = 0

    def _total(self, states: Sequence[Standing]) -> str:
        done, wanted = sum(s.step for s in states), sum(run.steps for run in self._runs)
        seconds = time.monotonic() - self._start
        rate = (done - self._before) / seconds if seconds else 0.0
        left = sum(
            run.steps - state.step
            for run, state in zip(self._runs, states)
            if state.state not in ("finished", "failed")
        )
        names = [state.state for state in states]
        counts = ", ".join(f"{names.count(n)} {n}" for n in dict.fromkeys(names))
        clock = f", about {left / rate / 60:.0f} min left" if rate and left else ""
        return f"sweep: {counts}; {done}/{wanted} steps{clock}"


def _line(run: Run, state: Standing, width: int) -> str:
    filled = 20 * state.step // max(run.steps, 1)
    bar = "#" * filled + "." * (20 - filled)
    loss = "" if state.loss is None else f" loss {state.loss:.3f}"
    error = f" {state.error[:80]}" if state.error else ""
    return f"  {run.name:{width}} {bar} {state.step:>6}/{run.steps} {state.state}{loss}{error}"
