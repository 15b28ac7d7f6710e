"""A tiny training run as a process that can be killed, and what its work directory holds."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STEPS, EVERY = 24, 4  # a save and an evaluation every few steps, so that kills fall into them
TIMING = ("seconds", "per_second", "time_share", "mfu")
TINY = {
    "model.vit.layers": 1,
    "model.decoder.layers": 1,
    "model.vit.width": 32,
    "model.vit.mlp_width": 48,
    "model.decoder.width": 32,
    "model.decoder.mlp_width": 48,
    "data.global_rows": 4,
    "data.virtual_shards": 4,
    "data.look_ahead": 16,
    "data.image_slots": 4,
    "heldout.batches": 2,
    "optim.warmup_steps": 2,
    "optim.steps": STEPS,
    "eval_every": EVERY,
    "checkpoint.every": EVERY,
    "checkpoint.keep": 100,
}


class Job:
    """One start of `launch/run.py` in a work directory.

    Args:
      cache: folder of compiled programs, shared by all jobs.
      environment: variables beside those of this process.
    """

    def __init__(
        self,
        data: Path,
        workdir: Path,
        *,
        cache: Path,
        arguments: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        **fields,
    ):
        self.workdir = workdir
        name = f"{workdir.parent.name}.{workdir.name}"
        self._log = (cache.parent / f"{name}.log").open("ab")
        self._begin = self._log.tell()
        values = {"data.num_workers": 0, "init.checkpoint": ""} | TINY | fields
        command = [sys.executable, f"{ROOT}/launch/run.py", f"--workdir={workdir}"]
        command += [f"--config={ROOT}/configs/stage1.py:demo,data={data}"]
        command += [f"--config.{key}={value}" for key, value in values.items()] + [*arguments]
        shared = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache)}
        shared |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.process = subprocess.Popen(
            command, env=shared | (environment or {}), stdout=self._log, stderr=self._log
        )

    def until(self, condition: Callable[[], bool], *, seconds: float = 300.0) -> bool:
        """Wait for a condition; whether it came before the process ended."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.005)
        return False

    def signal(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def end(self, *, seconds: float = 300.0) -> int:
        """The exit code; kills what outlives `seconds`."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            return -signal.SIGKILL
        finally:
            self._log.close()

    def said(self) -> str:
        """What it has printed."""
        with Path(self._log.name).open("rb") as file:
            file.seek(self._begin)
            return file.read().decode("utf-8", "replace")


def lines(workdir: Path) -> list[dict]:
    """Metrics that are not a clock's, by step."""
    path = workdir / "metrics.jsonl"
    found = []
    for line in path.read_text("utf-8", "replace").splitlines() if path.is_file() else ():
        try:
            values = json.loads(line)
        except ValueError:
            continue  # being written
        found.append({k: v for k, v in values.items() if not any(t in k for t in TIMING)})
    return sorted(found, key=lambda line: (line["step"], "heldout" in line))


def steps(workdir: Path) -> list[int]:
    """Whole steps on disk."""
    folder = workdir / "checkpoints"
    return sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit())


def phase(workdir: Path) -> str:
    """What a run is at, as its files tell."""
    if not (found := lines(workdir)):
        return "compile"
    if list((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*")):
        return "save"
    newest = max(steps(workdir), default=0)
    evaluated = {m["step"] for m in found if "heldout" in m}
    started = {m["step"] for m in found if "loss" in m}
    if newest and newest not in evaluated and newest not in started:
        return "evaluation"
    return "step"


def checkpoint(workdir: Path, step: int) -> dict:
    """Hashes of a step's parameters and moments as they are on disk, the frozen weights' name, the
    data's state and the notes.
    """
    import orbax.checkpoint as ocp

    from qwenvl_jax.checkpoint import intact
    from qwenvl_jax.checkpoint.fingerprint import fingerprint

    found = {}
    with ocp.StandardCheckpointer() as checkpointer:
        for name in ("params", "optimizer"):
            tree = checkpointer.restore(intact.step_folder(workdir, step) / name)
            found[name] = fingerprint(tree)
    meta = intact.read_meta(workdir, step)
    return found | {key: meta[key] for key in ("frozen", "data", "extra")}


def content(workdir: Path) -> dict:
    """The newest step with the log."""
    step = steps(workdir)[-1]
    return {"step": step, **checkpoint(workdir, step), "metrics": lines(workdir)}
