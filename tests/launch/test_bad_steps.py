"""Runs whose steps go wrong: what is kept, what is said, and how they go on."""

import json

import jax
import pytest

from benchmarks.faults.job import checkpoint as content
from launch import stage
from qwenvl_jax.train import events, guard, report
from qwenvl_jax.train.bad_steps import BadSteps
from qwenvl_jax.train.restarts import batch_index
from tests.small_stage import kept, logged, meta, page, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """The order in which CPU collectives add is not fixed, so bits are compared on one device."""
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *_: first)


def exploding(data):
    """A rate far too high: the loss is NaN from the third step or so on."""
    config = page(data)
    config.optim.update(dict(peak_lr=1e8, clip_norm=1e30, steps=40))
    config.checkpoint.update(dict(every=1, keep=3))
    return config


def test_a_loss_that_stays_nan_ends_the_run_and_keeps_what_was_good(data, tmp_path):
    """A run that goes on with NaN deletes its good checkpoints one after the other."""
    workdir = tmp_path / "run"
    with pytest.raises(BadSteps) as error:
        stage.train(exploding(data), workdir)
    lines = logged(workdir)
    bad = [m["step"] for m in lines if any(k.startswith("skipped_step/") for k in m)]
    assert len(bad) == 10 and bad == list(range(bad[0], bad[0] + 10))
    assert max(kept(workdir)) <= bad[0], "a state after bad steps was saved"
    for step in kept(workdir):
        assert meta(workdir, step)["extra"]["guard"]["skipped_R"] == [0, 0, 0, 0]
    said = str(error.value)
    assert f"steps {bad[0]} to {bad[-1]} were skipped, 10 in a row" in said
    assert f"newest good checkpoint: step {max(kept(workdir))}" in said
    assert f"--step={bad[0]}" in said and "scenes_en" in said
    skipped = [e["step"] for e in events.read(workdir) if e["event"] == "skipped step"]
    assert skipped == bad


def test_a_run_that_ends_on_bad_steps_has_not_succeeded(data, tmp_path):
    """Fewer than `max_bad_steps` were left: exit 0 would call NaN a result."""
    config = exploding(data)
    config.optim.steps = 8
    with pytest.raises(BadSteps):
        stage.train(config, tmp_path)
    assert 8 not in kept(tmp_path) and kept(tmp_path)


def test_spikes_are_skipped_alike_by_a_run_that_was_cut_off(data, tmp_path, monkeypatch):
    """The window is state: lost at a resume, other steps would be skipped than without the cut."""
    monkeypatch.setattr(guard, "WINDOW", 8)
    monkeypatch.setattr(guard, "LEAST", 4)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    config = page(data)
    config.optim.update(dict(steps=24, skip_spikes=1.0))
    config.checkpoint.every = 12
    stage.train(config, whole)
    names = {k for m in logged(whole) for k in m if k.startswith("skipped_step/")}
    assert names and names <= {"skipped_step/loss_spike", "skipped_step/norm_spike"}

    log = report.Report.step

    def cut(self, step, metrics):
        if step == 14:
            raise InterruptedError
        log(self, step, metrics)

    with monkeypatch.context() as patch:
        patch.setattr(report.Report, "step", cut)
        with pytest.raises(InterruptedError):
            stage.train(config, broken)
    stage.train(config, broken)
    assert logged(broken) == logged(whole)
    assert content(broken, 24) == content(whole, 24)


def test_going_back_and_leaving_batches_out_is_done_once_and_noted(data, tmp_path):
    """A requeued job gives the same command again: it must go on, not back once more."""
    config = page(data)
    config.checkpoint.every = 2
    stage.train(config, tmp_path)
    assert kept(tmp_path) == [4, 6, 8]
    before = content(tmp_path, 6)

    config.resume = {"step": 4, "skip_batches": 3}
    config.optim.steps = 8
    stage.train(config, tmp_path)
    note = {"step": 4, "asked_step": 4, "skip_batches": 3}
    assert meta(tmp_path, 6)["extra"]["restarts"] == [note]
    assert content(tmp_path, 6)["params"] != before["params"], "the same batches again"
    aside = list(tmp_path.glob("checkpoints-*/*"))
    assert {p.name for p in aside} >= {"6", "8"}, "newer steps were deleted"
    assert batch_index(3, [note]) == 3 and batch_index(4, [note]) == 7

    after = content(tmp_path, 8)
    config.optim.steps = 10
    stage.train(config, tmp_path)  # the same restart asked, with steps left to go on with
    assert content(tmp_path, 8) == after
    found = [e["event"] for e in events.read(tmp_path)]
    assert [e for e in found if e != "finished"] == ["started", "resumed", "restarted", "resumed"]


def test_going_back_needs_something_to_go_back_to(data, tmp_path):
    config = page(data)
    config.resume = {"step": 4, "skip_batches": 0}
    with pytest.raises(ValueError, match=r"config\.resume\.step=4.* holds no checkpoint"):
        stage.train(config, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())
