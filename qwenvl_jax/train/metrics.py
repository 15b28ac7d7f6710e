"""A run's numbers: JSONL for programs, TensorBoard for people, progress for the one who waits.

Each line of `metrics.jsonl` is strict JSON. Numbers that JSON does not have are the strings "NaN",
"Infinity" and "-Infinity", as protobuf's JSON writes them; `read_metrics` makes floats of them.
"""

import contextlib
import json
import math
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tqdm import tqdm

from qwenvl_jax.checkpoint import atomic, room

SHOWN = ("loss", "tokens_per_second", "images_per_second", "mfu", "padding")
_NO_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class Lines(NamedTuple):
    """What a `metrics.jsonl` holds."""

    good: list[dict[str, Any]]
    damaged: list[bytes]  # not UTF-8, not JSON, or without a step
    cut_off: bytes  # a last line without its end, as a kill leaves it


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The readable lines of a `metrics.jsonl`, with NaN and infinities as floats.

    A last line that a kill cut off is left out; the log counts damaged lines.
    """
    lines = read_lines(path)
    if lines.damaged:
        logging.warning("%s: %d damaged lines are left out", path, len(lines.damaged))
    return lines.good


def read_lines(path: str | Path) -> Lines:
    """The lines of a `metrics.jsonl`, each good, damaged or cut off."""
    *whole, last = Path(path).read_bytes().split(b"\n")
    good, damaged, cut_off = [], [], b""
    for line in whole:
        values = _parse(line)
        if values is None:
            damaged.append(line)
        else:
            good.append(values)
    if last:
        values = _parse(last)
        if values is None:
            cut_off = last
        else:
            good.append(values)
    return Lines(good, damaged, cut_off)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        values = json.loads(line.decode("utf-8"))
    except ValueError:
        return None
    if not isinstance(values, dict) or type(values.get("step")) is not int:
        return None
    return {k: _NO_NUMBERS.get(v, v) if isinstance(v, str) else v for k, v in values.items()}


def _format(values: dict[str, Any]) -> str:
    """A line of strict JSON; -> `{"step": 3, "loss": "NaN"}`."""
    strict = {key: _strict(value) for key, value in values.items()}
    return json.dumps(strict, allow_nan=False) + "\n"


def _strict(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


class MetricWriter:
    """Appends to `metrics.jsonl` and TensorBoard, flushed at every write.

    A run that resumes at step `first` takes away what was logged from there on, so that its log
    equals that of a run that was never interrupted; `lost` is how many steps that were,
    `lost_seconds` how long they took. Nothing is deleted: those lines are appended to
    `metrics.set-aside.jsonl`, damaged ones to `metrics.damaged.jsonl`.
    """

    def __init__(self, workdir: Path, first: int):
        workdir.mkdir(parents=True, exist_ok=True)
        self._workdir, path = workdir, workdir / "metrics.jsonl"
        lines = read_lines(path) if path.exists() else Lines([], [], b"")
        kept = [m for m in lines.good if m["step"] < first]
        later = [m for m in lines.good if m["step"] >= first]
        lost = [m for m in later if "loss" in m]
        self.lost = len({m["step"] for m in lost})
        self.lost_seconds = float(sum(m.get("seconds", 0.0) for m in lost))
        self._set_aside("damaged", lines.damaged)
        self._set_aside("set-aside", [_format(m).rstrip().encode() for m in later])
        if lines.cut_off:
            logging.info("%s: a last line of %d bytes was cut off", path, len(lines.cut_off))
        text = "".join(map(_format, kept))
        with room.writing(path.name, workdir, len(text)):
            atomic.write_text(path, text)
        self._file = path.open("ab", buffering=0)  # nothing is left to be written at the close
        self._board = _Board(workdir / "tensorboard", first)

    def _set_aside(self, kind: str, lines: list[bytes]) -> None:
        """Before `metrics.jsonl` is replaced: a kill in between leaves some twice, not none."""
        if not lines:
            return
        path = self._workdir / f"metrics.{kind}.jsonl"
        text = b"".join(line + b"\n" for line in lines)
        with room.writing(path.name, self._workdir, len(text)), path.open("ab") as file:
            file.write(text)
        say = logging.warning if kind == "damaged" else logging.info
        say("metrics.jsonl: %d %s lines are now in %s", len(lines), kind, path)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Log scalars under a step.

        Raises:
          DiskFull: there is no space for them.
        """
        self._append({"step": step, **values})
        try:
            with room.writing("a step's metrics", self._workdir, 1024 * len(values)):
                self._board.write(step, values)
        except OSError:
            self._board.broken = True
            raise

    def _append(self, values: dict[str, Any]) -> None:
        line = _format(values)
        with room.writing("a line of metrics.jsonl", self._workdir, len(line)):
            rest = line.encode()
            while rest:
                rest = rest[self._file.write(rest) :]

    def close(self) -> None:
        """Close both logs."""
        self._file.close()
        self._board.close()


class _Board:
    """TensorBoard's event file, written in the caller's thread.

    tensorboardX's own writer has a thread behind a queue of ten: it dies of the first full disk,
    and whoever fills the queue then waits for ever.
    """

    def __init__(self, folder: Path, first: int):
        self.broken = False  # a write failed, so what the file still buffers is lost
        folder.mkdir(exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._add(first, session_log=session)  # later steps of older files count as purged

    def _add(self, step: int, **content: Any) -> None:
        self._writer.write_event(event_pb2.Event(wall_time=time.time(), step=step, **content))

    def write(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._add(step, summary=summary.scalar(name, value))
        self._writer.flush()

    def close(self) -> None:
        with contextlib.suppress(*([OSError] if self.broken else [])):  # it was raised already
            self._writer.close()


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
