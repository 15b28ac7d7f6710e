"""If these break, a lost worker takes the job's finished work with it."""

import os
import signal
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from data_pipelines.build.engine import local_engine


def note(path: str) -> None:
    """Leave a file; the first to find `kill` beside it dies as by the system's memory killer."""
    try:
        Path(path).with_name("kill").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    except FileNotFoundError:
        Path(path).touch()


def refuse(path: str) -> None:
    raise ValueError(f"record of {Path(path).name}")


def test_a_killed_worker_stops_the_job_and_the_engine_goes_on(tmp_path):
    tasks = [str(tmp_path / str(n)) for n in range(6)]
    (tmp_path / "kill").touch()
    engine = local_engine(2)
    with pytest.raises(BrokenProcessPool):
        engine(note, tasks)
    engine(note, tasks)
    assert len(list(tmp_path.iterdir())) == 6


def test_an_error_names_what_was_wrong(tmp_path):
    engine = local_engine(2)
    with pytest.raises(ValueError, match="record of 1"):
        engine(refuse, [str(tmp_path / "1"), str(tmp_path / "1")])
    with pytest.raises(ValueError, match="record of 2"):
        engine(refuse, [str(tmp_path / "2")])
