"""Runs as processes: what is kept, resumed and left alone when the command is given again."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.sweeps import runner
from launch.sweeps.plan import Run
from launch.sweeps.progress import Display, standing

NOTHING = runner.Evaluation((), 1, 1)


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Real processes in place of trainings: each notes that it ran; `bad` ends with an error."""

    def commands(run, evaluation):
        code = f"open({str(tmp_path / 'ran')!r}, 'a').write({run.arm + ' '!r})"
        end = "\nraise ValueError('no such thing')" if run.arm == "bad" else ""
        return [sys.executable, "-c", code + end], []

    monkeypatch.setattr(runner, "commands", commands)
    return tmp_path / "ran"


def go(tmp_path, arms, retry_failed=False):
    runs = [Run(arm, 0, tmp_path / arm, {"optim": {"steps": 2}}) for arm in arms]
    unfinished = runner.run_all(
        runs, tmp_path, evaluation=NOTHING, parallel=2, retry_failed=retry_failed
    )
    return runs, unfinished


def test_finished_runs_are_kept_and_failed_ones_wait_for_a_word(started, tmp_path):
    """Again and again, a sweep of days must not start over, nor repeat what cannot work."""
    runs, unfinished = go(tmp_path, ["good", "bad"])
    assert unfinished == 1 and sorted(started.read_text().split()) == ["bad", "good"]
    assert standing(runs[0]).state == "finished"
    assert standing(runs[1]).error == "ValueError: no such thing"
    assert json.loads((tmp_path / "good" / "config.json").read_text()) == runs[0].config
    [code] = json.loads((tmp_path / "good" / "code.json").read_text())
    assert not code or len(code["commit"]) == 40  # outside a clone nothing is known
    go(tmp_path, ["good", "bad"])
    assert len(started.read_text().split()) == 2
    go(tmp_path, ["good", "bad"], retry_failed=True)
    assert started.read_text().split()[2:] == ["bad"]


def test_a_broken_run_goes_on(started, tmp_path):
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "metrics.jsonl").write_text('{"step": 0, "loss": 2.0}\n{"step": 1, "lo')
    run = Run("cut", 0, tmp_path / "cut", {"optim": {"steps": 2}})
    assert standing(run)[:3] == ("broken", 1, 2.0)
    assert go(tmp_path, ["cut"])[1] == 0 and started.read_text().split() == ["cut"]


def test_the_display_tells_where_every_run_stands(tmp_path, capsys):
    """Who waits for days wants to know for how many runs, and why one stopped."""
    runs = [Run(arm, 0, tmp_path / arm, {"optim": {"steps": 4}}) for arm in "abcd"]
    for run, done in zip(runs[:3], (4, 1, 2)):
        run.folder.mkdir()
        lines = [{"step": step, "loss": 2.5 - step} for step in range(done)]
        text = "".join(json.dumps(line) + "\n" for line in [*lines, {"step": 9, "heldout": 1.0}])
        (run.folder / "metrics.jsonl").write_text(text)
    (runs[0].folder / "done.json").write_text("{}")
    (runs[1].folder / "failed.json").write_text('{"error": "no space left"}')
    display = Display(runs)
    display.update({"c/seed0"}, now=True)
    assert capsys.readouterr().err == (
        "sweep: 1 finished, 1 failed, 1 running, 1 waiting; 7/16 steps\n"
    )
    display.update({"c/seed0"})  # not yet time again
    assert capsys.readouterr().err == ""
    display._terminal = True
    display.update({"c/seed0"}, now=True)
    bars = capsys.readouterr().err.splitlines()[1:]
    assert bars[1].split(maxsplit=3)[3] == "failed loss 2.500 no space left"
    assert "#" * 10 + "." * 10 in bars[2] and bars[2].endswith("2/4 running loss 1.500")
    assert bars[3].endswith("0/4 waiting")


def test_one_sweep_at_a_time(started, tmp_path):
    """Two would write one checkpoint folder."""
    with runner._locked(tmp_path), pytest.raises(ValueError, match="are at work here"):
        go(tmp_path, ["good"])


KILLED = """
import sys
sys.path.insert(0, {root!r})
from launch.sweeps import runner
from launch.sweeps.plan import Run
from pathlib import Path
code = "import os, time; open({pid!r}, 'w').write(str(os.getpid())); time.sleep(60)"
runner.commands = lambda run, evaluation: ([sys.executable, "-c", code], [])
folder = Path({folder!r})
run = Run("a", 0, folder / "a", {{"optim": {{"steps": 2}}}})
runner.run_all([run], folder, evaluation=runner.Evaluation((), 1, 1), parallel=1,
               retry_failed=False)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends the runs of a killed sweep")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_sweep_takes_its_runs_along(tmp_path, how):
    """Left alone they would train on for days on devices that the next sweep wants."""
    pid = tmp_path / "pid"
    code = KILLED.format(root=str(runner.ROOT), pid=str(pid), folder=str(tmp_path))
    sweep = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        assert _within(60, lambda: pid.is_file() and pid.read_text())
    finally:
        sweep.send_signal(how)
        sweep.wait()
    assert _within(10, lambda: not _runs(int(pid.read_text())))
    with runner._locked(tmp_path):
        pass


def _within(seconds: float, true) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(true())


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # ended, and nobody asked how
