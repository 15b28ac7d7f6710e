"""The runs of a sweep as isolated processes, several at a time, each on its share of the cores.

A run is two commands that a user could type: launch/run.py with the run's stored config, here or as
a job of a scheduler, then launch/evaluate.py on what came out, here. Both write into the run's work
directory and its `log.txt`; `code.json` says which code they were started with.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from launch.sweeps import submit, sweep_file
from launch.sweeps.plan import Run
from launch.sweeps.progress import DONE, FAILED, LOG, Display, standing
from qwenvl_jax.checkpoint import run_config
from qwenvl_jax.endings import AGAIN

ROOT = Path(__file__).resolve().parents[2]
TIED = Path(__file__).with_name("tied.py")
LOCK = "lock"
POLL = 0.2  # seconds


class Evaluation(NamedTuple):
    """What launch/evaluate.py scores each run on."""

    data: tuple[str, ...]  # folders of held-out shards
    limit: int  # the first records of each
    rows: int


class _Setting(NamedTuple):
    """What all runs of a sweep share."""

    evaluation: Evaluation
    parallel: int
    where: submit.Where
    lock: int  # a descriptor


class _Active(NamedTuple):
    run: Run
    process: subprocess.Popen
    slot: int
    evaluating: bool


def run_all(
    runs: Sequence[Run],
    workdir: Path,
    *,
    evaluation: Evaluation,
    parallel: int,
    retry_failed: bool,
    where: submit.Where = "here",
) -> int:
    """Run what is not finished; returns how many runs are not finished afterwards.

    A run that was cut off goes on at its newest checkpoint. One that failed is left alone, its last
    error shown, unless `retry_failed`. An end of this process, of whatever kind, ends its runs;
    jobs that are with a scheduler stay there.

    Raises:
      ValueError: runs of this folder are still at work.
    """
    code = sweep_file.git_state()
    with _locked(workdir) as lock:
        setting = _Setting(evaluation, parallel, where, lock)
        if retry_failed:
            for run in runs:
                (run.folder / FAILED).unlink(missing_ok=True)
        states = [standing(run).state for run in runs]
        waiting = [r for r, state in zip(runs, states) if state not in ("finished", "failed")]
        display = Display(runs)
        active: list[_Active] = []
        try:
            while waiting or active:
                used = {entry.slot for entry in active}
                for slot in range(parallel):
                    if waiting and slot not in used:
                        run = waiting.pop(0)
                        _store(run, code)
                        active.append(_train(run, slot, setting))
                display.update({entry.run.name for entry in active})
                time.sleep(POLL)
                later = [_after(entry, setting, display) for entry in active]
                active = [entry for entry in later if entry]
        finally:
            for entry in active:
                entry.process.terminate()
            for entry in active:
                entry.process.wait()
        display.update(set(), now=True)
    for run in runs:
        if (state := standing(run)).state == "failed":
            display.note(f"failed: {run.name}: {state.error} (all of it: {run.folder / LOG})")
    return sum(standing(run).state != "finished" for run in runs)


@contextmanager
def _locked(workdir: Path) -> Iterator[int]:
    """A lock that the runs inherit: it lasts as long as any of them, even if they are orphans."""
    with (workdir / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{workdir}: another sweep, or runs it left, are at work here"
            ) from None
        yield file.fileno()


def _store(run: Run, code: dict[str, Any]) -> None:
    """The whole config where the run's own start will write the same, and the code's state at each
    start.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    run_config.write(run.folder, run.config)
    path = run.folder / "code.json"
    states = json.loads(path.read_text("utf-8")) if path.is_file() else []
    if code not in states:
        _write(path, [*states, code])


def commands(run: Run, evaluation: Evaluation) -> tuple[list[str], list[str]]:
    """(training, scoring) as a user would type them."""
    config = f"{ROOT}/configs/stored.py:{run.folder / 'config.json'}"
    train = [f"{ROOT}/launch/run.py", f"--config={config}", f"--workdir={run.folder}"]
    score = [f"{ROOT}/launch/evaluate.py", f"--checkpoint={run.folder}"]
    score += [f"--data={','.join(evaluation.data)}", f"--limit={evaluation.limit}"]
    score += [f"--rows={evaluation.rows}", "--noblind"]
    return [sys.executable, *train], [sys.executable, *score]


def _train(run: Run, slot: int, setting: _Setting) -> _Active:
    if setting.where == "here":
        command = commands(run, setting.evaluation)[0]
        process = _start(command, run, slot, setting)
    else:
        job = submit.job(setting.where, run)
        process = _start(job.command, run, slot, setting, cwd=ROOT, env=job.env)
    return _Active(run, process, slot, False)


def _after(entry: _Active, setting: _Setting, display: Display) -> _Active | None:
    """What a run does next: the same, its scoring, or nothing more."""
    code, run = entry.process.poll(), entry.run
    if code is None:
        return entry
    if code == AGAIN:
        display.note(f"asked to end, and saved: {run.name}; the same command goes on")
        return None
    if code:
        error = _last_error(run.folder / LOG, code)
        _write(run.folder / FAILED, {"returncode": code, "error": error})
        display.note(f"failed: {run.name}: {error}")
        return None
    if entry.evaluating or not setting.evaluation.data:
        _write(run.folder / DONE, {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z")})
        return None
    (run.folder / "scores.jsonl").unlink(missing_ok=True)  # of an evaluation that was cut off
    process = _start(commands(run, setting.evaluation)[1], run, entry.slot, setting)
    return entry._replace(process=process, evaluating=True)


def _start(
    command: list[str],
    run: Run,
    slot: int,
    setting: _Setting,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen:
    cores = sorted(os.sched_getaffinity(0))
    # XLA makes a thread for each core that it may use, so this must be said before it starts; a
    # process inherits the cores of the thread that starts it.
    os.sched_setaffinity(0, cores[slot :: setting.parallel] or cores)
    try:
        with (run.folder / LOG).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(TIED), str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=cwd,
                env=os.environ | _devices(slot, setting.parallel) | dict(env or {}),
                pass_fds=(setting.lock,),
            )
    finally:
        os.sched_setaffinity(0, cores)


def _devices(slot: int, parallel: int) -> dict[str, str]:
    """Each run its share of the GPUs that this process was given by number, if any."""
    given = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return {"CUDA_VISIBLE_DEVICES": ",".join(given[slot::parallel])} if given else {}


def _last_error(log: Path, code: int) -> str:
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
    last = next((line for line in reversed(lines) if line), "no output")
    return f"killed by signal {-code}" if code < 0 else last


def _write(path: Path, values: Any) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values), "utf-8")
    partial.replace(path)
