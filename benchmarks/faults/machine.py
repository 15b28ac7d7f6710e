"""Faults of the machine: a full disk, a folder that cannot be written, NaN, lost processes."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.interruptions import Bench, differences
from benchmarks.faults.job import content, lines, steps
from benchmarks.faults.table import Row


def last_line(text: str) -> str:
    said = [line for line in text.splitlines() if line.startswith("run: ")]
    return said[-1] if said else ""


@contextlib.contextmanager
def mounted(bench: Bench, options: str) -> Iterator[Path | None]:
    """A small disk of its own; None where this user may not mount one."""
    mount = bench.folder()
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", mount]
    if subprocess.run(command).returncode:
        yield None
        return
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", mount], check=False)


def not_finite(bench: Bench) -> Row:
    """A rate far too high: ends with 1, what was good is kept."""
    row = Row("NaN from step 3 on", "exit 1 with the steps; no step after it is saved")
    workdir = bench.folder()
    job = bench.job(
        workdir, **{"optim.peak_lr": 1e8, "optim.clip_norm": 1e30, "checkpoint.every": 1}
    )
    code = job.end()
    bad = [m["step"] for m in lines(workdir) if any(k.startswith("skipped_step") for k in m)]
    right = code == 1 and len(bad) == 10 and max(steps(workdir)) <= bad[0]
    row.add(f"exit {code}, {len(bad)} skipped, newest kept {max(steps(workdir))}", right=right)
    shutil.rmtree(workdir)
    return row


def disk_full(bench: Bench) -> Row:
    """A disk that fills while a step is saved; needs the right to mount a tmpfs."""
    row = Row("the disk fills during a save", "one line: place, needed, free; earlier steps intact")
    with mounted(bench, "size=24m") as mount:
        if mount is None:
            return row
        job = bench.job(mount / "run")
        job.until(lambda: bool(steps(mount / "run")))
        (mount / "filler").write_bytes(bytes(shutil.disk_usage(mount).free))
        code = job.end()
        kept = steps(mount / "run")
        line = last_line(job.said())
        right = code == 1 and bool(kept) and "free" in line
        about = line or job.said()[-300:]
        row.add(f"exit {code}, {len(kept)} steps kept", right=right, about=about)
    return row


def read_only(bench: Bench) -> Row:
    """A work directory on a read-only mount is refused before the compile."""
    row = Row("a read-only work directory", "exit 2, one line, before the compile")
    with mounted(bench, "size=1m,ro") as mount:
        if mount is None:
            return row
        job = bench.job(mount / "run")
        code, said = job.end(), job.said()
        right = code == 2 and "memory a device" not in said
        row.add(f"exit {code}", right=right, about=said[-300:])
    return row


def two_runs(bench: Bench) -> Row:
    """A second run in a work directory that is in use."""
    row = Row("a second run in one work directory", "exit 2, host and process of the first")
    workdir = bench.folder()
    first = bench.job(workdir)
    first.until(lambda: (workdir / "config.json").exists())
    second = bench.job(workdir)
    code, line = second.end(), last_line(second.said())
    right = code == 2 and str(first.process.pid) in line and first.end() == 0
    wrong = differences(content(workdir), bench.reference())
    row.add(f"exit {code}", right=right and not wrong, about=line or wrong)
    shutil.rmtree(workdir)
    return row


def _address() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def _job_of(bench: Bench, workdir: Path, count: int, devices: int) -> list:
    address = _address()
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    flags = f"--xla_force_host_platform_device_count={devices}"
    return [
        bench.job(
            workdir,
            arguments=("--multihost",),
            environment=dict(zip(names, (address, str(count), str(i)))) | {"XLA_FLAGS": flags},
        )
        for i in range(count)
    ]


def processes(bench: Bench) -> list[Row]:
    """A process of two that is killed or signalled; a state of two taken up by one and by four."""
    lost = Row("one of two processes is killed", "the other ends within 120 s")
    told = Row("SIGTERM to one of two processes", "both exit 75 at one step, which is saved")
    elastic = Row("a state of 2 processes taken up by 1 and 4", "the same batches to the end")
    whole = bench.folder()
    for job in _job_of(bench, whole, 2, 2):
        job.end()
    wanted = [m["tokens"] for m in lines(whole) if "tokens" in m]

    workdir = bench.folder()
    both = _job_of(bench, workdir, 2, 2)
    both[0].until(lambda: bool(steps(workdir)))
    both[1].signal(signal.SIGKILL)
    begin = time.monotonic()
    code = both[0].end(seconds=180)
    took = time.monotonic() - begin
    said = both[0].said()[-300:]
    lost.add(
        f"ended, exit {code}", right=code not in (0, -signal.SIGKILL) and took < 120, about=said
    )

    for count in (1, 4):
        copy = bench.folder()
        shutil.copytree(workdir, copy)
        jobs = _job_of(bench, copy, count, 4 // count)
        codes = [job.end() for job in jobs]
        found = [m["tokens"] for m in lines(copy) if "tokens" in m]
        same = found == wanted and not any(codes)
        outcome = f"{count}: same batches" if same else f"{count}: {codes}"
        elastic.add(outcome, right=same, about=jobs[0].said()[-300:])
        shutil.rmtree(copy)

    copy = bench.folder()
    both = _job_of(bench, copy, 2, 2)
    both[0].until(lambda: bool(steps(copy)))
    both[1].signal(signal.SIGTERM)
    codes = [job.end() for job in both]
    kept = max(steps(copy), default=0)
    right = codes == [75, 75] and f"step {kept} is saved" in both[0].said()
    told.add(f"exit {codes}, step {kept}", right=right, about=both[1].said()[-300:])
    return [lost, told, elastic]


def orphans(bench: Bench) -> Row:
    """Worker processes of a run that is killed outright."""
    row = Row("SIGKILL of a run with 2 workers", "no worker is left after 10 s")
    for _ in range(3):
        workdir = bench.folder()
        job = bench.job(workdir, **{"data.num_workers": 2})
        job.until(lambda w=workdir: bool(lines(w)))
        children = _children(job.process.pid)
        job.signal(signal.SIGKILL)
        job.end()
        end = time.monotonic() + 10
        while (left := [pid for pid in children if _alive(pid)]) and time.monotonic() < end:
            time.sleep(0.1)
        outcome = f"{len(children)} workers, {len(left)} left"
        row.add(outcome, right=len(children) >= 2 and not left)
        shutil.rmtree(workdir)
    return row


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                fields = (path / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append(int(path.name))
    return found


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
