"""Workers end with their parent, however it ends: those left over would hold memory for ever."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import multiprocessing, time
from data_pipelines import workers

def reader(number):
    workers.start_reader(number, 2)
    time.sleep(300)

def builder(number):
    workers.start_builder()
    time.sleep(300)

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    started = [spawn.Process(target=work, args=(i,)) for i, work in enumerate((reader, builder))]
    for process in started:
        process.start()
    print(*(process.pid for process in started), flush=True)
    time.sleep(300)
"""


def _alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("wait", [0.0, 3.0])
def test_workers_end_with_a_parent_that_is_killed(tmp_path, wait):
    """Killed while the workers still start, and killed while they work."""
    script = tmp_path / "parent.py"
    script.write_text(SCRIPT)
    parent = subprocess.Popen(
        [sys.executable, script],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        text=True,
    )
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    time.sleep(wait)
    if wait:
        assert all(_alive(pid) for pid in pids)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    end = time.monotonic() + 30
    while any(_alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    left = [pid for pid in pids if _alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left
