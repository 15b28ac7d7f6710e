"""One run a work directory. Two at once delete each other's checkpoints and both end with 0."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qwenvl_jax.checkpoint import lock

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from qwenvl_jax.checkpoint import lock
with lock.held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(workdir) -> subprocess.Popen:
    """Another process that has the work directory."""
    command = [sys.executable, "-c", HOLD, str(workdir)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_told_of_the_first_and_takes_over_when_it_is_gone(tmp_path):
    first = holder(tmp_path)
    try:
        with pytest.raises(ValueError, match=f"in use by process {first.pid} on "):
            with lock.held(tmp_path):
                pass
        assert json.loads((tmp_path / lock.NAME).read_text())["process"] == first.pid
        first.send_signal(signal.SIGKILL)
        first.wait()
        with lock.held(tmp_path):
            assert json.loads((tmp_path / lock.NAME).read_text())["process"] == os.getpid()
        assert not (tmp_path / lock.NAME).exists()
    finally:
        first.kill()


def test_a_number_that_another_process_has_by_now_is_no_owner(tmp_path):
    """Process numbers come again after a reboot, or after some thousands of processes."""
    with lock.held(tmp_path):
        owner = json.loads((tmp_path / lock.NAME).read_text())
    (tmp_path / lock.NAME).write_text(json.dumps(owner | {"start": owner["start"] - 1}))
    with lock.held(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "{", '{"host": "x"}', "[]"])
def test_a_file_that_a_kill_cut_off_is_no_owner(tmp_path, text):
    (tmp_path / lock.NAME).write_text(text)
    with lock.held(tmp_path):
        pass


def test_a_run_of_another_host_is_gone_once_it_touches_its_lock_no_more(tmp_path, monkeypatch):
    """On a shared file system nobody sees another host's processes."""
    monkeypatch.setattr(lock, "BEAT", 0.1)
    monkeypatch.setattr(lock, "STALE", 0.6)
    monkeypatch.setattr(lock.socket, "gethostname", lambda: "far")
    alive = lock.held(tmp_path)
    alive.__enter__()
    monkeypatch.setattr(lock.socket, "gethostname", lambda: "near")
    with pytest.raises(ValueError, match="in use by process .* on far"):
        with lock.held(tmp_path):
            pass
    path = tmp_path / lock.NAME
    text = path.read_text()
    alive.__exit__(None, None, None)
    path.write_text(text)  # as a host leaves it that lost its power
    os.utime(path, (time.time() - 100, time.time() - 100))
    with lock.held(tmp_path):
        assert json.loads(path.read_text())["host"] == "near"
