"""A whole stage from its config page: what a killed run leaves, and what a mistake says."""

import json

import jax
import pytest

from benchmarks.faults.job import checkpoint as content
from configs import stage0, stage1
from launch import evaluate, stage
from launch.source_scores import HowAsked
from qwenvl_jax.checkpoint.fingerprint import fingerprint
from qwenvl_jax.train import report
from tests.small_stage import logged, page, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """The order in which CPU collectives add is not fixed, so bits are compared on one device."""
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *_: first)


def test_a_killed_run_goes_on_bit_for_bit(data, tmp_path, monkeypatch):
    """One lost or repeated batch, moment or step would change a metric, an answer or a hash."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    config = page(data)
    config.scores.update(dict(records=2, sources="scenes_en", blind=True))
    stage.train(config, whole)

    class Killed(Exception):
        pass

    log = report.Report.step

    def fall_over(self, step, metrics):
        if step == 4:  # right after a save: whatever the log has not written by now is lost
            raise Killed
        log(self, step, metrics)

    with monkeypatch.context() as patch:
        patch.setattr(report.Report, "step", fall_over)
        with pytest.raises(Killed):
            stage.train(config, broken)
    assert not (broken / "checkpoints" / "8").exists()
    stage.train(config, broken)

    assert logged(broken) == logged(whole)
    assert content(broken, 8) == content(whole, 8)
    assert content(whole, 4)["params"] != content(whole, 8)["params"]
    assert content(whole, 4)["frozen"] == content(whole, 8)["frozen"]
    assert {p.name for p in whole.iterdir()} >= {"config.json", "metrics.jsonl", "loss.png"}
    assert answers(broken) == answers(whole)
    the_loop_scores_as_evaluate_does(data, whole)


def answers(workdir) -> dict[str, str]:
    return {str(p.relative_to(workdir)): p.read_text() for p in workdir.glob("scores/*/*.jsonl")}


def the_loop_scores_as_evaluate_does(data, workdir):
    """The weights of step 8 in memory and on disk: the same prompts, answers, scores and names."""
    made = [json.loads(x) for x in (workdir / "scores/8/scores.jsonl").read_text().splitlines()]
    folder = data / "validation/scenes_en"
    wanted = evaluate.evaluate(workdir, folder, HowAsked(2))
    assert [line | {"checkpoint": None} for line in wanted] == made
    assert {line["metric"] for line in made} >= {"cider", "bleu_4", "perplexity"}
    name = "scenes_en_caption_en.jsonl"
    said = (workdir / "answers" / name).read_text()
    assert (workdir / "scores/8" / name).read_text() == said
    before = json.loads((workdir / "scores/4/scores.jsonl").read_text().splitlines()[-1])
    assert before["metric"] == "perplexity" and before["value"] != made[-1]["value"]
    (logs,) = [m for m in logged(workdir) if m["step"] == 8]
    for line in made:
        name = f"scenes_en/caption_en/{line['metric']}"
        assert logs[f"score/{name}"] == line["value"]
        assert logs.get(f"blind/{name}") == line["blind"]


def test_stage_1_starts_from_stage_0(data, tmp_path):
    """The decoder that stage 0 trained must be the one that stage 1 freezes."""
    first = page(data, stage0)
    stage.train(first, tmp_path / "stage0")
    second = page(data)
    second.optim.steps = 4
    second.init.checkpoint = str(tmp_path / "stage0")
    _, frozen = stage.train(second, tmp_path / "stage1")
    assert set(frozen) == {"decoder"}
    assert fingerprint(frozen) == content(tmp_path / "stage0", 8)["params"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.adapter.num_queries", 15, "config.model.adapter.num_queries=15 is no square"),
        ("model.decoder.vocab_size", 128, "config.model.decoder.vocab_size=128"),
        ("model.decoder.image_pad_id", 3, "config.model.decoder.image_pad_id=3: <imgpad> of"),
        ("data.num_workers", 3, "num_workers=3 does not divide the 2 virtual"),
        ("init.checkpoint", "nowhere", "config.init.checkpoint=nowhere"),
        ("model.vit.image_size", 60, "config.model.vit.image_size=60 is not a multiple"),
        ("data.global_rows", 3, "config.data.global_rows=3 is not a multiple"),
        ("data.tokenizer", "nowhere/tokenizer.model", "tokenizer nowhere/tokenizer.model"),
        ("optim.stepz", 3, "config.optim.stepz is not known"),
        ("optim.steps", "many", "config.optim.steps must be int"),
        ("data.image_slots", 15, "at most 14 a row"),
        ("loss_chunk", 0, "loss_chunk=0 must be at least 1"),
        ("mesh.tensor", 3, "config.mesh"),
        ("scores.records", -1, "config.scores.records=-1"),
        ("scores", {"records": 1, "sources": "nothing"}, "config.scores.sources: 'nothing'"),
    ],
)
def test_a_mistake_is_named_before_anything_is_compiled(data, tmp_path, key, value, message):
    """A pod must not start on a typo."""
    config = page(data)
    *parents, name = key.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    with node.unlocked(), node.ignore_type():
        node[name] = value
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        stage.train(config, tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_the_released_stage_1_is_the_papers_table():
    """Each value of the recipe's first column."""
    training, stream, _ = stage.read(stage1.get_config())
    optim = training.optim
    assert (optim.b1, optim.b2, optim.eps, optim.weight_decay) == (0.9, 0.98, 1e-6, 0.05)
    assert (optim.peak_lr, optim.min_lr, optim.vit_layer_decay) == (2e-4, 1e-6, 0.95)
    assert (optim.warmup_steps, optim.steps, optim.accumulation) == (500, 50_000, 6)
    assert (optim.clip_norm, training.model.dtype) == (1.0, "bfloat16")
    assert (stream.image_size, stream.num_queries) == (224, 256)
    assert [source.weight for source in stream.sources] == [0.773, 0.227]
    trained = {tower: optim.is_trainable(f"{tower}/x") for tower in ("vit", "adapter", "decoder")}
    assert trained == {"vit": True, "adapter": True, "decoder": False}
