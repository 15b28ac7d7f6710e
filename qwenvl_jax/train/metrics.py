"""A run's numbers: JSONL for programs, TensorBoard for people, progress for the one who waits."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter
from tqdm import tqdm

SHOWN = ("loss", "tokens_per_second", "images_per_second", "mfu", "padding")


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; a last line that was cut off by a kill is left out."""
    lines = []
    for line in Path(path).read_text("utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


class MetricWriter:
    """Appends to `metrics.jsonl` and TensorBoard, flushed at every write.

    A run that resumes at step `first` drops what was logged from there on, so that its log equals
    that of a run that was never interrupted; `lost` is how many steps that were, `lost_seconds` how
    long they took.
    """

    def __init__(self, workdir: Path, first: int):
        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / "metrics.jsonl"
        logged = read_metrics(path) if path.exists() else []
        kept = [m for m in logged if m["step"] < first]
        lost = [m for m in logged if m["step"] >= first and "loss" in m]
        self.lost = len({m["step"] for m in lost})
        self.lost_seconds = float(sum(m.get("seconds", 0.0) for m in lost))
        partial = path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")
        partial.replace(path)
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=first)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Log scalars under a step."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Close both logs."""
        self._file.close()
        self._board.close()


class Progress:
    """A progress bar on a terminal; elsewhere a line every ten seconds."""

    def __init__(self, total: int, *, initial: int = 0):
        terminal = sys.stderr.isatty()
        self._every, self._last = (0.0 if terminal else 10.0), 0.0
        self._bar = tqdm(
            total=total, initial=initial, unit="step", disable=not terminal, dynamic_ncols=True
        )
        self._total, self._start, self._initial = total, time.perf_counter(), initial

    def update(self, done: int, values: dict[str, float]) -> None:
        """Show that `done` steps are done, with the last one's numbers."""
        self._bar.n = done
        text = ", ".join(f"{name} {values[name]:,.3g}" for name in SHOWN if name in values)
        self._bar.set_postfix_str(text, refresh=True)
        now = time.perf_counter()
        if self._every and (now - self._last > self._every or done == self._total):
            self._last = now
            rate = (done - self._initial) / (now - self._start)
            left = (self._total - done) / rate if rate else 0.0
            print(
                f"step {done}/{self._total}, {left:.0f} s left: {text}", file=sys.stderr, flush=True
            )

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
