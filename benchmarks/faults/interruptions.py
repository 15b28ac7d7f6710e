"""Kills and signals: the run goes on from what was saved, to the same end."""

import random
import shutil
import signal
from pathlib import Path

from benchmarks.faults.job import EVERY, Job, content, phase, steps
from benchmarks.faults.table import Row

PHASES = ("compile", "step", "save", "evaluation")
AGAIN = 75


class Bench:
    """Where runs go, and the content of one that nothing interrupted."""

    def __init__(self, data: Path, scratch: Path, *, seed: int = 0):
        self.data, self.scratch = data, scratch
        self.cache = scratch / "compiled"
        self.random = random.Random(seed)
        self._count = 0

    def job(self, workdir: Path, **options) -> Job:
        return Job(self.data, workdir, cache=self.cache, **options)

    def folder(self) -> Path:
        """A new work directory."""
        self._count += 1
        return self.scratch / f"run{self._count}"

    def reference(self) -> dict:
        """Content of the uninterrupted run; made once."""
        workdir = self.scratch / "whole"
        if not steps(workdir):
            job = self.job(workdir)
            assert job.end() == 0, job.said()
        return content(workdir)

    def finished(self) -> Path:
        """A copy of the uninterrupted run, to be damaged."""
        self.reference()
        workdir = self.folder()
        shutil.copytree(self.scratch / "whole", workdir)
        return workdir


def differences(found: dict, wanted: dict) -> str:
    """What differs; "" where nothing does."""
    return ", ".join(key for key in wanted if found.get(key) != wanted[key])


def kills(bench: Bench, count: int) -> list[Row]:
    """SIGKILL at random moments, resumed each time, until `count` kills of every phase."""
    wanted = bench.reference()
    rows = {p: Row(f"SIGKILL during {p}", "resumes; the end is bit-identical") for p in PHASES}
    done = dict.fromkeys(PHASES, 0)
    while min(done.values()) < count:
        workdir, killed = bench.folder(), []
        while True:
            job = bench.job(workdir)
            due = [p for p in PHASES if done[p] < count]
            if due and len(killed) < 12:
                wish, begun = bench.random.choice(due), len(steps(workdir))
                pause = bench.random.random() * (6.0 if wish == "compile" else 0.05)
                if wish == "compile":
                    hit = not job.until(lambda: False, seconds=pause)
                else:
                    hit = job.until(
                        lambda at=workdir, w=wish, b=begun: phase(at) == w and len(steps(at)) >= b
                    )
                    job.until(lambda: False, seconds=pause)
                if hit and job.process.poll() is None:
                    where = wish if wish == "compile" else phase(workdir)
                    job.signal(signal.SIGKILL)
                    job.end()
                    killed.append(where)
                    done[where] += 1
                    continue
            code = job.end()
            break
        wrong = differences(content(workdir), wanted) if code == 0 else f"exit {code}"
        for where in killed:
            outcome = "bit-identical" if not wrong else f"differs ({wrong})"
            rows[where].add(outcome, right=not wrong, about=f"{workdir.name}: {job.said()[-300:]}")
        shutil.rmtree(workdir, ignore_errors=True)
    return list(rows.values())


def signals(bench: Bench) -> list[Row]:
    """The three signals in every phase: saved where there was something to save, then resumed."""
    wanted = bench.reference()
    rows = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        for place in PHASES:
            expected = "exit 75 at once" if place == "compile" else "exit 75, that step saved"
            row = Row(f"{number.name} during {place}", f"{expected}; the end is bit-identical")
            workdir = bench.folder()
            job = bench.job(workdir)
            if place == "compile":
                job.until(lambda w=workdir: (w / "config.json").exists())
            else:
                job.until(lambda w=workdir, p=place: phase(w) == p and max(steps(w), default=EVERY))
            job.signal(number)
            code = job.end()
            kept = max(steps(workdir), default=0)
            said = f"step {kept} is saved" in job.said() or not kept
            again = bench.job(workdir)
            ended = again.end()
            wrong = differences(content(workdir), wanted) if ended == 0 else f"exit {ended}"
            right = code == AGAIN and said and not wrong and bool(kept or place == "compile")
            outcome = f"exit {code}, step {kept} kept, {'then ' + wrong if wrong else 'same end'}"
            row.add(outcome, right=right, about=job.said()[-300:])
            rows.append(row)
            shutil.rmtree(workdir, ignore_errors=True)
    return rows
