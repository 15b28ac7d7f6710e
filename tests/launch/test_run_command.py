"""`launch/run.py` as a process: signals, exit codes, and what a user's mistake prints."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import free_address
from tests.small_stage import kept, write_data
from tests.xla import xla_flags

ROOT = Path(__file__).parents[2]
SMALL = [
    "--config.model.vit.layers=1",
    "--config.model.decoder.layers=1",
    "--config.model.vit.width=32",
    "--config.model.vit.mlp_width=48",
    "--config.model.decoder.width=32",
    "--config.model.decoder.mlp_width=48",
    "--config.data.global_rows=2",
    "--config.data.virtual_shards=2",
    "--config.data.look_ahead=16",
    "--config.data.num_workers=0",
    "--config.heldout.batches=1",
    "--config.optim.steps=1000000",
    "--config.eval_every=1000000",
    "--config.checkpoint.every=1000000",
    "--config.checkpoint.keep=1",
    "--config.checkpoint.keep_best=False",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("scenes"))


def start(data, workdir, *more, processes=1, devices=1) -> list[subprocess.Popen]:
    """Processes of one job, their output in WORKDIR.N.log."""
    address = free_address()
    running = []
    for number in range(processes):
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags(devices)}
        command = [sys.executable, "launch/run.py", f"--workdir={workdir}"]
        command += [f"--config=configs/stage1.py:demo,data={data}", *SMALL, *more]
        if processes > 1:
            command.append("--multihost")
            names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
            environment |= dict(zip(names, (address, str(processes), str(number))))
        log = Path(f"{workdir}.{number}.log").open("w")
        running.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
    return running


def wait_for_steps(workdir, running, count: int) -> None:
    path = workdir / "metrics.jsonl"
    while all(process.poll() is None for process in running):
        if path.exists() and path.read_text().count("\n") >= count:
            return
        time.sleep(0.05)
    raise AssertionError(Path(f"{workdir}.0.log").read_text()[-3000:])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_the_step_and_says_how_to_go_on(data, tmp_path, number):
    """A preempted run would lose all steps since its last checkpoint."""
    workdir = tmp_path / "run"
    (process,) = start(data, workdir)
    try:
        wait_for_steps(workdir, [process], 3)
        process.send_signal(number)
        code = process.wait(120)
    finally:
        process.kill()
    said = Path(f"{workdir}.0.log").read_text().splitlines()
    (step,) = kept(workdir)
    assert code == 75, said[-5:]
    assert f"stopped by {number.name} at step {step}; step {step} is saved" in said[-1]
    assert step == json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])["step"] + 1


def test_one_notice_ends_both_processes_at_one_step(data, tmp_path):
    """Cloud providers warn one host of many; a step that only one process leaves hangs the job."""
    workdir = tmp_path / "run"
    running = start(data, workdir, processes=2)
    try:
        wait_for_steps(workdir, running, 3)
        running[1].send_signal(signal.SIGTERM)
        codes = [process.wait(180) for process in running]
    finally:
        for process in running:
            process.kill()
    (step,) = kept(workdir)
    ends = [Path(f"{workdir}.{n}.log").read_text().splitlines()[-1] for n in range(2)]
    assert codes == [75, 75], ends
    for end in ends:
        assert f"stopped by SIGTERM to process 1 at step {step}; step {step} is saved" in end


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--config.optim.stepz=3"], "run: config.optim.stepz is not known; did you mean steps?"),
        (["--config.data.sources.scenes_en.path=/nowhere"], "run: source /nowhere"),
        (["--workdir=/proc/nowhere"], "run: --workdir=/proc/nowhere: "),
        (["--stepz=3"], "run: Unknown command line flag 'stepz'"),
        (["--config.init.take=nothing/.*", "--config.init.checkpoint=@"], "run: config.init"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(data, tmp_path, more, says):
    """A traceback of forty lines hides the one that helps."""
    more = [argument.replace("@", str(tmp_path)) for argument in more]
    (process,) = start(data, tmp_path / "run", *more)
    code = process.wait(120)
    said = (tmp_path / "run.0.log").read_text().splitlines()
    assert code == 2, said
    assert len(said) == 1 and said[0].startswith(says), said
