"""A job of several processes on this machine."""

import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from launch import hosts
from tests.xla import xla_flags

ROOT = Path(__file__).parents[1]


def free_address() -> str:
    """Where a job's processes may meet."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def run_job(command: Sequence[str], *, processes: int = 2, devices: int, timeout: float) -> None:
    """Run `command` in each, told of the others as `launch/hosts.py` expects it; all must succeed.

    Args:
      devices: of each, CPU.
      timeout: seconds for each; neither outlives it.
    """
    address = free_address()
    shared = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags(devices)}
    running = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=shared
            | dict(zip(hosts.VARIABLES, (address, str(processes), str(number)), strict=True)),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for number in range(processes)
    ]
    try:
        said = [process.communicate(timeout=timeout)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    for process, text in zip(running, said, strict=True):
        assert process.returncode == 0, text[-4000:]
