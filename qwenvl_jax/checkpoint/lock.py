"""One run a work directory: `run.lock` names the host and process that has it.

    same host     no process has the owner's number and start time: taken over at once
    other host    the owner, who touches the file every few seconds, stops doing so: taken over

Ages are told by the file system's own clock, as hosts' clocks differ. No `flock`: shared file
systems ignore it, or keep it when its host is gone.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import logging

NAME = "run.lock"
BEAT = 10.0  # seconds between two touches
STALE = 60.0  # without a touch
_SETTLE = 0.2  # until another who takes the same file over has done so too


@contextlib.contextmanager
def held(workdir: str | Path) -> Iterator[None]:
    """Hold a work directory until the block ends, however it ends.

    Raises:
      ValueError: another run has it; names host, process and how long.
    """
    path = Path(workdir) / NAME
    mine = _take(path)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, mine, stop), name="run lock", daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        if _read(path) == mine:
            path.unlink(missing_ok=True)


def _take(path: Path) -> dict[str, Any]:
    mine = _myself()
    text = json.dumps(mine)
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "w") as file:
            file.write(text)
        return mine
    except FileExistsError:
        pass
    owner = _read(path)
    if owner is not None and _works(path, owner):
        raise ValueError(
            f"{path.parent} is in use by process {owner['process']} on {owner['host']}, since"
            f" {owner['since']}; end that run, or take another --workdir"
        )
    logging.warning("%s is taken over: its run has ended: %s", path, owner or "no owner")
    partial = path.with_name(f"{NAME}.{mine['host']}.{mine['process']}")
    partial.write_text(text, "utf-8")
    partial.rename(path)
    time.sleep(_SETTLE)
    if _read(path) != mine:
        raise ValueError(f"{path.parent}: another run has taken it over at the same moment")
    return mine


def _works(path: Path, owner: dict[str, Any]) -> bool:
    """Whether the owner of the lock still runs; on another host it takes up to `STALE` seconds."""
    me = _myself()
    if (owner.get("host"), owner.get("boot")) == (me["host"], me["boot"]):
        return _start_of(owner["process"]) == owner["start"]
    end = time.monotonic() + STALE
    while (touched := _touched(path)) is not None:
        if _now(path) - touched > STALE or time.monotonic() > end:
            return False
        logging.info("%s is of %s: waiting whether it is still touched", path, owner.get("host"))
        time.sleep(BEAT / 2)
        if _touched(path) != touched:
            return True
    return False


def _beat(path: Path, mine: dict[str, Any], stop: threading.Event) -> None:
    while not stop.wait(BEAT):
        if _read(path) != mine:
            logging.error("%s was taken by another run: %s", path, _read(path))
            return
        with contextlib.suppress(OSError):  # a disk that hangs must not end the run
            os.utime(path)


def _myself() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "boot": _boot(),
        "process": os.getpid(),
        "start": _start_of(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _read(path: Path) -> dict[str, Any] | None:
    """The owner; None where there is no such file or a kill cut it off."""
    try:
        owner = json.loads(path.read_text("utf-8"))
        return owner if isinstance(owner, dict) and "process" in owner else None
    except (OSError, ValueError):
        return None


def _touched(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _now(path: Path) -> float:
    """The file system's time."""
    probe = path.with_name(f"{NAME}.{os.getpid()}.now")
    probe.write_bytes(b"")
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _boot() -> str:
    """Changes when the host starts again; two containers of a host share it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _start_of(process: int) -> int | None:
    """When a process of this host started, in clock ticks since boot; None where there is none."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])
