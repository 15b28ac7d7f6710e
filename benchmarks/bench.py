"""Benchmarks as processes, each with a limit of its own; their output is kept."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

# Every width a sixteenth of the released one, so that a CPU goes through all parts.
TINY = {
    "model.vit.width": 104,
    "model.vit.heads": 1,
    "model.vit.layers": 2,
    "model.vit.mlp_width": 512,
    "model.adapter.num_queries": 16,
    "model.adapter.heads": 2,
    "model.decoder.width": 256,
    "model.decoder.heads": 2,
    "model.decoder.layers": 2,
    "model.decoder.mlp_width": 688,
    "model.decoder.vocab_size": 1024,
    "model.decoder.image_pad_id": 1000,
    "data.seq_len": 512,
    "model.dtype": "float32",
}


class Bench:
    """Starts programs, keeps their output, and knows the time that is left."""

    def __init__(self, out: Path, scratch: Path, *, small: bool, seconds: float, torch: str):
        self.out, self.scratch, self.small = out, scratch, small
        self.torch = f"--torch_python={torch}"
        self._end = time.monotonic() + seconds
        self.deadline = self._end

    def left(self) -> float:
        return self._end - time.monotonic()

    def python(self, log: str, *command: str, fraction: float = 0.0) -> str:
        """A Python program's output, both streams; also in `LOG.log`.

        Args:
          fraction: of the device's memory that JAX may take; 0: as it likes.

        Raises:
          RuntimeError: it failed or was too slow; the end of what it said.
        """
        environment = dict(os.environ)
        environment["TMPDIR"] = str(self.scratch)
        environment["JAX_COMPILATION_CACHE_DIR"] = str(self.scratch / "compiled")
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "2"
        if fraction:
            environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = str(fraction)
        path = self.out / f"{log}.log"
        seconds = self.deadline - time.monotonic()
        with path.open("a") as file:
            print("$", *command, file=file, flush=True)
            child = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = child.wait(timeout=max(seconds, 1))
            except subprocess.TimeoutExpired:
                code = f"stopped after {seconds:.0f} s"
            finally:  # the processes that it started as well
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        said = path.read_text(errors="replace").rpartition("$ " + " ".join(command))[2]
        if code:
            raise RuntimeError(f"{Path(command[0]).name}: {code}\n{shortened(said)}")
        return said

    def benchmark(self, log: str, script: str, *flags: str, **how) -> str:
        return self.python(log, str(HERE / script), *flags, **how)

    def step(self, log: str, config: str, changes: dict, *flags: str) -> tuple[str, dict]:
        """`train_step.py` on a page with changes: what it said, and its figures."""
        figures = self.out / f"{log}.json"
        figures.unlink(missing_ok=True)
        if self.small:
            changes = TINY | changes
        said = self.benchmark(
            log,
            "train_step.py",
            f"--config={ROOT / 'configs' / config}",
            "--device=any",
            "--rounds=1",
            f"--steps={2 if self.small else 5}",
            f"--json={figures}",
            *(f"--set={key}={value}" for key, value in changes.items()),
            *flags,
            fraction=0.95,
        )
        return said, json.loads(figures.read_text())


def shortened(text: str) -> str:
    """Of a program's output what tells most: lines with an error, and the last ones."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("  File")]
    errors = [line for line in lines if re.search(r"Error|RESOURCE|FAILED|cuDNN|refus", line)]
    telling = dict.fromkeys([*errors[:2], *errors[-3:], *lines[-4:]])
    return "\n".join(f"    {line[:300]}" for line in telling)


def chosen(text: str, pattern: str) -> Iterator[str]:
    """Lines of a program's output that match."""
    return (line for line in text.splitlines() if re.search(pattern, line))


def about() -> Iterator[str]:
    """The machine and the versions."""
    from importlib.metadata import PackageNotFoundError, version

    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "torch", "nvidia-cudnn-cu13")
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            yield f"{name} {version(name)}"
    with contextlib.suppress(FileNotFoundError, subprocess.SubprocessError):
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv"]
        yield subprocess.run(query, capture_output=True, text=True).stdout.splitlines()[-1]
    yield f"{os.cpu_count()} cores"


def roomy_folder() -> Path:
    """Where weights go from one process to another: memory, where there is enough of it."""
    shared = Path("/dev/shm")
    fits = shared.is_dir() and shutil.disk_usage(shared).free > 30 * 2**30
    return (shared if fits else Path("/tmp")) / "qwenvl_h100"
