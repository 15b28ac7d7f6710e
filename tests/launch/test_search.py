"""If these break, a search recommends what does not run, or misses what does."""

import dataclasses
import itertools
import json
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import stage1
from launch.plan import chips, estimate, runs, search
from launch.plan.estimate import Candidate, Estimate
from qwenvl_jax import settings
from qwenvl_jax.batch import Batch
from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.parallel.mesh import MeshConfig, make_mesh
from qwenvl_jax.train import program
from qwenvl_jax.train.config import TrainConfig
from qwenvl_jax.train.optim import OptimConfig

BATCH = estimate.Batch(rows=48, length=64, images=96, unit=1, turns=1, labelled=768)


@pytest.fixture(scope="module")
def given():
    """A small stage: its config and the shapes of its parameters."""
    model = ModelConfig.tiny(56)
    optim = settings.build(OptimConfig, stage1.get_config().optim.to_dict(), "config.optim")
    shapes = jax.eval_shape(lambda r: qwenvl.init(model, r), jax.random.key(0))
    return dict(config=TrainConfig(0, model, optim, loss_chunk=16), shapes=shapes, batch=BATCH)


def accepted(config: TrainConfig, mesh: tuple[int, int, int], turns: int) -> list[int]:
    """Numbers of microbatches that the trainer's own checks let pass; nothing is compiled."""
    config, passed = dataclasses.replace(config, mesh=MeshConfig(*mesh)), []
    text = np.zeros((BATCH.rows, BATCH.length), np.int32)
    pixels = np.zeros((BATCH.rows, 2, 56, 56, 3), np.uint8)
    batch = Batch(text, text, text, text, text, pixels, np.zeros((BATCH.rows, 2), bool))
    for accumulation in range(1, BATCH.rows + 1):
        optim = dataclasses.replace(config.optim, accumulation=accumulation)
        config = dataclasses.replace(config, optim=optim)
        try:
            sizes = dict(rows=BATCH.rows, row_length=64, images=96)
            config.check_batch(turns=turns, **sizes)
            program.check(config, batch, make_mesh(config.mesh))
            passed.append(accumulation)
        except ValueError:
            continue
    try:
        program.layout(config, make_mesh(config.mesh))
    except ValueError:
        return []
    return passed


@pytest.mark.parametrize("turns", [1, 2])
def test_candidates_are_what_the_trainer_accepts(given, turns):
    """All of 8 devices' meshes and numbers of microbatches, one by one."""
    given = given | dict(batch=BATCH._replace(turns=turns))
    found = estimate.candidates(chips=8, **given)
    assert len(set(found)) == len(found)
    sizes = [s for s in itertools.product((1, 2, 4, 8), repeat=3) if np.prod(s) == 8]
    wanted = {
        Candidate(*mesh, accumulation, remat)
        for mesh in sizes
        for accumulation in accepted(given["config"], mesh, turns)
        for remat in ("none", "dots", "full")
    }
    assert set(found) == wanted and len({c[:3] for c in found}) > 3


def test_estimates_follow_their_sizes(given):
    """More microbatches need less memory and send more; keeping less computes more."""
    chip = chips.CHIPS["v5e"]

    def of(*candidate):
        return estimate.estimate(Candidate(*candidate), chip=chip, kernel="splash", **given)

    few, many = of(1, 8, 1, 1, "dots"), of(1, 8, 1, 3, "dots")
    assert many.hbm < few.hbm and many.links > few.links
    none, dots, full = (of(1, 8, 1, 1, remat) for remat in ("none", "dots", "full"))
    assert none.hbm > dots.hbm > full.hbm and dots.compute < full.compute
    assert of(8, 1, 1, 1, "full").hbm > full.hbm


def test_slices_are_parts_of_data(given):
    """Or each compile of a search is spent on a mesh that the trainer refuses; gradients go between
    slices in every microbatch, by a network that is slower than links.
    """
    one = estimate.candidates(chips=8, **given)
    two = estimate.candidates(chips=8, slices=2, **given)
    assert set(two) == {c for c in one if c.data % 2 == 0} and len(two) < len(one)
    about = given | dict(chip=chips.CHIPS["v5e"], kernel="splash")
    mesh = Candidate(2, 4, 1, 3, "dots")
    alone, both = (estimate.estimate(mesh, slices=n, **about) for n in (1, 2))
    assert both.network > 0 and both._replace(network=0.0) == alone
    slow = about["chip"]._replace(network_rate=1.0)
    bound = estimate.estimate(mesh, slices=2, **about | dict(chip=slow))
    assert bound.seconds == bound.network


LIMIT = 1000


def guess(gib: float, seconds: float) -> Estimate:
    return Estimate(hbm=gib, compute=seconds, memory=0.0, links=0.0)


def made(hbm: int, seconds: float) -> dict:
    return {
        "hbm_bytes": hbm, "hbm_limit_bytes": LIMIT, "step_seconds": seconds, "bound": "compute",
        "flops_hardware": 3.0, "flops_ideal": 2.0,
    }  # fmt: skip


def run(estimates, plans, at_most):
    asked = []

    def compile_one(candidate):
        asked.append(candidate)
        return plans[candidate]

    found = search.search(estimates, compile_one, limit=LIMIT, at_most=at_most)
    return found, asked


def test_a_search_does_not_spend_itself_on_one_kind():
    """Ways to split the batch differ by less than estimates are off: four of them, compiled one
    after the other, kept the best number of microbatches from being tried at all.
    """
    alike = [Candidate(n, 64 // n, 1, 2, "full") for n in (1, 2, 4, 8)]
    other = Candidate(1, 64, 1, 8, "dots")
    estimates = {c: guess(400 - n, 3.0 + n / 1000) for n, c in enumerate(alike)}
    estimates |= {other: guess(100, 3.05)}
    plans = {c: made(400, 3.1) for c in alike} | {other: made(100, 2.9)}
    found, asked = run(estimates, plans, at_most=2)
    assert asked == [alike[0], other] and found[0].candidate == other
    plans[alike[0]] = made(901, 3.1)  # what does not fit keeps none like it from being tried
    estimates |= {c: guess(300, 3.0 + n / 1000) for n, c in enumerate(alike[1:], 1)}
    assert run(estimates, plans, at_most=2)[1] == alike[:2]


def test_a_search_takes_the_fastest_that_fits():
    """The estimates' favourite does not fit, the next does not compile: neither ends the search nor
    wins it, and what would need more than the first is not tried at all.
    """
    big, broken, slow, quick, more = (Candidate(1, n, 1, 1, "dots") for n in (1, 2, 3, 4, 5))
    estimates = {
        big: guess(800, 1.0), more: guess(850, 2.0), broken: guess(300, 3.0),
        slow: guess(200, 4.0), quick: guess(100, 5.0),
    }  # fmt: skip
    plans = {
        big: made(950, 1.0), broken: "the compiler gave up", slow: made(260, 9.0),
        quick: made(110, 6.0),
    }  # fmt: skip
    found, asked = run(estimates, plans, at_most=4)
    assert asked == [big, broken, slow, quick]
    assert [one.candidate for one in found[:2]] == [quick, slow]
    told = search.text(found, considered=5)
    assert "--config.mesh.fsdp=4" in told.splitlines()[-1]
    assert "DOES NOT FIT" in told and "the compiler gave up" in told


def test_a_candidate_that_ran_out_of_memory_takes_the_like_along():
    """The three fastest of stage 1 did so one after the other, and the search had found nothing."""
    huge, like, small = (Candidate(1, n, 1, 1, "dots") for n in (1, 2, 3))
    estimates = {huge: guess(880, 1.0), like: guess(870, 2.0), small: guess(700, 3.0)}
    plans = {huge: "RESOURCE_EXHAUSTED: 17.34G of 15.75G", small: made(800, 3.0)}
    found, asked = run(estimates, plans, at_most=2)
    assert asked == [huge, small] and found[0].candidate == small


def test_a_search_that_finds_nothing_says_so(tmp_path):
    """Not the least bad as if it were good."""
    only = Candidate(1, 1, 1, 1, "full")
    found, _ = run({only: guess(500, 1.0)}, {only: made(5000, 1.0)}, at_most=3)
    assert "none of them fits" in search.text(found, considered=1)
    search.write(found, tmp_path)
    (row,) = json.loads((tmp_path / "search.json").read_text())
    assert row["remat"] == "full" and row["plan"]["hbm_bytes"] == 5000 and not row["fits"]


def test_what_cannot_fit_is_not_compiled():
    """Each compile takes minutes."""
    small, large = Candidate(1, 1, 1, 2, "none"), Candidate(1, 1, 1, 1, "none")
    estimates = {large: guess(10 * LIMIT, 1.0), small: guess(100, 2.0)}
    _, asked = run(estimates, {small: made(100, 2.0)}, at_most=3)
    assert asked == [small]


def test_a_process_that_was_killed_is_started_again(tmp_path, monkeypatch):
    """Whoever stopped it, or the lack of memory that did, says nothing of the plan."""
    asked = []

    def process(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, -9, "", "")

    monkeypatch.setattr(runs.subprocess, "run", process)
    for _ in range(2):
        assert "exit status -9" in runs.compiled(["--any"], tmp_path)
    assert len(asked) == 2


def test_a_plan_is_made_once(tmp_path, monkeypatch):
    """A search that was stopped goes on; other sizes in the same folder are another plan, and a
    refusal is kept with all that was told of it.
    """
    asked = []

    def process(command, **_):
        asked.append(command)
        if "--good" in command:
            (Path(command[-1].removeprefix("--out=")) / "plan.json").write_text('{"chips": 4}')
        told = "noise\ncompile: out of memory\n  parameters 9 GiB"
        return subprocess.CompletedProcess(command, 1, "", told)

    monkeypatch.setattr(runs.subprocess, "run", process)
    for _ in range(2):
        assert runs.compiled(["--good"], tmp_path / "a") == {"chips": 4}
        assert runs.compiled(["--bad"], tmp_path / "b") == "out of memory\n  parameters 9 GiB"
    assert len(asked) == 2
    assert isinstance(runs.compiled(["--other"], tmp_path / "a"), str)
    assert len(asked) == 3
