"""Processes with a device each, started as a user starts them, against one process alone."""

import json
import shutil
import sys
from pathlib import Path

import jax
import pytest

from configs import stage1
from data_pipelines.build.scenes import SceneConfig, build_scenes
from launch import hosts, stage
from tests.processes import run_job

CHANGES = {
    "data.global_rows": 4,
    "data.look_ahead": 24,
    "data.num_workers": 0,
    "heldout.batches": 1,
    "optim.steps": 4,
    "optim.warmup_steps": 1,
    "checkpoint.every": 2,
    "eval_every": 2,
    "scores.records": 3,
    "scores.sources": "scenes_en",
    **{f"model.{tower}.width": 32 for tower in ("vit", "decoder")},
    **{f"model.{tower}.layers": 1 for tower in ("vit", "decoder")},
}


# Rows of a process share its image slots.
SHARES = {
    2: {"data.virtual_shards": 2, "data.slot_rows": 2, "data.image_slots": 18},
    4: {"data.virtual_shards": 4, "data.slot_rows": 1, "data.image_slots": 9},
}


def train(data: Path, workdir: Path, processes: int, *, fsdp: int, tensor: int) -> None:
    """`launch/run.py --multihost` in every process."""
    changes = CHANGES | SHARES[processes] | {"mesh.fsdp": fsdp, "mesh.tensor": tensor}
    command = [
        *(sys.executable, "launch/run.py", "--multihost", f"--workdir={workdir}"),
        f"--config=configs/stage1.py:demo,data={data}",
        *(f"--config.{key}={value}" for key, value in changes.items()),
    ]
    run_job(command, processes=processes, devices=1, timeout=300)


def metrics(workdir: Path) -> list[dict]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return sorted(lines, key=lambda line: (line["step"], "heldout" in line))


def data_state(workdir: Path) -> list:
    path = workdir / "checkpoints" / "4" / "meta" / "metadata"
    return json.loads(path.read_text())["data"]


def said(workdir: Path) -> list[str]:
    """The model's own answers at each evaluation."""
    files = [workdir / f"scores/{step}/scenes_en_caption_en.jsonl" for step in (2, 4)]
    return [file.read_text("utf-8") for file in files]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    sizes = SceneConfig(scenes=64, eval_scenes=16, text_scenes=400, shards=2, processes=1)
    build_scenes(sizes, folder)
    return folder


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_train_as_one(processes, data, tmp_path, monkeypatch):
    """A row loaded twice or not at all, or a checkpoint of part of the data, changes a loss.

    First each process holds its part of the rows; then the job is resumed with pairs of devices
    sharing every row, so that both processes of a pair must load all of theirs.
    """
    config = stage1.get_config(f"demo,data={data}")
    config.update_from_flattened_dict(CHANGES | SHARES[processes])
    devices = jax.devices()[:1]
    with monkeypatch.context() as patch:
        patch.setattr(jax, "devices", lambda *_: devices)
        stage.train(config, tmp_path / "one")
    wanted = metrics(tmp_path / "one")

    def same_as_one():
        found = metrics(tmp_path / "all")
        assert [m["step"] for m in found] == [m["step"] for m in wanted]
        for got, want in zip(found, wanted, strict=True):
            kinds = ("loss", "heldout", "grad", "score")
            losses = {k: v for k, v in want.items() if k.startswith(kinds)}
            assert {k: got[k] for k in losses} == pytest.approx(losses, rel=1e-4)
        assert data_state(tmp_path / "all") == data_state(tmp_path / "one")
        assert said(tmp_path / "all") == said(tmp_path / "one")
        return [m["samples_read"] for m in found if "samples_read" in m]

    read = [m["samples_read"] for m in wanted if "samples_read" in m][-1]
    train(data, tmp_path / "all", processes, fsdp=processes, tensor=1)
    assert same_as_one()[-1] < 1.4 * read / processes  # the first process read its own part only
    shutil.rmtree(tmp_path / "all" / "checkpoints" / "4")
    train(data, tmp_path / "all", processes, fsdp=processes // 2, tensor=2)
    part = same_as_one()[-1] / read
    assert part == 1 if processes == 2 else part < 0.7


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("a:1", "2", ""), "not JAX_PROCESS_ID"),
        (("a:1", "two", "0"), "must be integers"),
        (("a:1", "2", "2"), "JAX_PROCESS_ID=2 is not below 2"),
    ],
)
def test_a_job_that_cannot_meet_is_refused_at_once(monkeypatch, values, message):
    """JAX would wait five minutes for a process that nobody starts."""
    for name, value in zip(hosts.VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        hosts.join()
