"""A process of a job that dies ends the others; else they would hold their chips for ever.

The processes run the watch without a model: what is tested is the store and the exit.
"""

import os
import signal
import socket
import subprocess
import sys

import pytest

SCRIPT = """
import sys, time
from pathlib import Path
import jax
from launch import hosts
from qwenvl_jax.train import watch
from qwenvl_jax.train.events import Events
watch.BEAT, watch.GONE = 0.1, 3.0
hosts.join()
with watch.Watch(Path(sys.argv[1]), Events(Path(sys.argv[1]))) as watched:
    watched.step(7)
    time.sleep(1)
    print("ready", flush=True)
    time.sleep(90)
"""


@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_dies_ends_the_other(tmp_path, killed):
    """The watch names process 1. Process 0 holds the coordination service: when it dies, JAX's
    client aborts the others at once, before the watch could speak.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    shared = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_COORDINATOR_ADDRESS": address}
    shared |= {"JAX_NUM_PROCESSES": "2", "PYTHONPATH": os.getcwd()}
    job = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path)],
            env=shared | {"JAX_PROCESS_ID": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in (0, 1)
    ]
    try:
        for process in job:
            assert process.stdout.readline() == "ready\n"
        job[killed].send_signal(signal.SIGKILL)
        _, said = job[1 - killed].communicate(timeout=80)
    finally:
        for process in job:
            process.kill()
    if killed == 0:
        assert "coordination service" in said, said
        assert job[1].returncode == -signal.SIGABRT
        return
    assert "run: process 1 of 2 has died" in said, said
    assert job[0].returncode == 75
