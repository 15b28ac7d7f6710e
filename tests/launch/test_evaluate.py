"""Scores of a checkpoint on sources of every task, from shards to lines on disk."""

import io
import json
import math

import jax
import numpy as np
import pytest
from PIL import Image

from data_pipelines.build import shards
from data_pipelines.schema import Record, Region, pack
from launch import evaluate, perplexity, scoring
from launch.loading import load_checkpoint
from qwenvl_jax.batch import IGNORE, Batch
from qwenvl_jax.model import qwenvl
from qwenvl_jax.text import prompts
from tests.workdirs import write_workdir

BOX = (0.1, 0.2, 0.5, 0.6)


def png(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (30, 20), (40 * number, 9, 200 - 20 * number)).save(out, "PNG")
    return out.getvalue()


def records() -> list[Record]:
    """Three of each of three tasks, one unreadable picture, text in the other language."""
    out = []
    for n in range(3):
        shared = {"language": "en", "images": (png(n),)}
        out += [
            Record(f"c{n}", "caption", text="a dog and a cat", **shared),
            Record(f"q{n}", "vqa", question="a dog?", text="a cat", **shared),
            Record(f"r{n}", "referring", regions=(Region("a dog", (BOX,)),), **shared),
        ]
    out.append(Record("bad", "caption", "en", (b"no picture",), "a dog"))
    out += [Record("t0", "text", "zh", text="狗 猫"), Record("t1", "text", "zh", text="猫")]
    return out


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return write_workdir(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heldout")
    path = folder / shards.shard_name("heldout", index=0, count=1)
    info = shards.write_shard(path, [pack(record) for record in records()])
    shards.write_manifest(folder, [info], config={})
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One device, and short answers: a random model never stops by itself."""
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *_: first)
    short = {name: task._replace(new_tokens=5) for name, task in scoring.TASKS.items()}
    monkeypatch.setattr(scoring, "TASKS", short)


def test_every_score_says_what_it_is(workdir, source):
    """A figure without its prompt, data, decoding or checkpoint cannot be compared with another."""
    found = evaluate.evaluate(workdir, source, limit=99, rows=2)
    lines = [json.loads(line) for line in (workdir / "scores.jsonl").read_text().splitlines()]
    assert lines == json.loads(json.dumps(found))
    by_name = {(s["task"], s["metric"]): s for s in lines}
    metrics = {"caption": {"cider", "bleu_4"}, "referring": {"iou_0.5"}, "text": set()}
    metrics["vqa"] = {"exact_match", "anls", "relaxed_accuracy"}
    expected = {(t, m) for t, names in metrics.items() for m in {*names, "perplexity"}}
    assert by_name.keys() == expected
    keys = {"checkpoint", "step", "data", "data_sha256", "limit", "task", "language", "records"}
    keys |= {"skipped", "prompt", "decoding", "metric", "value", "blind", "normaliser"}
    assert all(line.keys() == keys and math.isfinite(line["value"]) for line in lines)
    cider = by_name["caption", "cider"]
    assert cider["records"] == 3 and cider["skipped"] == {"image_unreadable": 1}
    assert cider["prompt"] == "<img></img>Generate the caption in English:"
    assert cider["decoding"]["stop_ids"] == "<|endoftext|>" and cider["decoding"]["beams"] == 1
    assert cider["checkpoint"] == load_checkpoint(workdir).sha256 and cider["blind"] is not None
    name = f"{source.name}_referring_en"
    answers = (workdir / "answers" / f"{name}.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in answers] == ["r0", "r1", "r2"]
    assert Image.open(workdir / "answers" / f"{name}.png").width > 600
    assert "| referring | en | 3 | iou_0.5 |" in evaluate.table(found)


def test_answers_are_about_their_own_pictures(workdir):
    """In batches of two as one by one; the blind ones are about another record's picture."""
    checkpoint = load_checkpoint(workdir)
    asked, _ = scoring._ask(checkpoint, [r for r in records()[:9] if r.task == "vqa"])
    items, prompts_ = [one.record for one in asked], [one.prompt for one in asked]
    decoding = scoring._decoding(checkpoint, "vqa", 1)
    together = scoring._answer(checkpoint, items, prompts_, decoding, 2)
    alone = [scoring._answer(checkpoint, [r], [p], decoding, 1)[0] for r, p in zip(items, prompts_)]
    assert together == alone
    moved = scoring._shuffled(prompts_)
    for mine, other in zip(prompts_, moved, strict=True):
        assert (mine.images[0] != other.images[0]).any()
    assert scoring._shuffled(prompts_[:1]) is None


def test_perplexity_is_that_of_the_supervised_tokens(workdir):
    """Against probabilities of whole rows, one record at a time, without chunks or padding."""
    checkpoint = load_checkpoint(workdir)
    given = [r for r in records() if r.task in ("caption", "text") and r.key != "bad"]
    got = {s["task"]: s["value"] for s in perplexity.score_records(checkpoint, given, rows=2)}
    config = checkpoint.model
    params = jax.device_get(checkpoint.params)

    @jax.jit
    def log_probabilities(batch):
        return jax.nn.log_softmax(
            qwenvl.logits(config, params, qwenvl.hidden(config, params, batch))
        )

    for task in ("caption", "text"):
        logs = []
        for record in (r for r in given if r.task == task):
            images = len(record.images)
            spans = prompts.task_spans(
                task, language=record.language, num_images=images, text=record.text
            )
            ids, supervised = prompts.encode_spans(spans, checkpoint.tokenizer, num_queries=16)
            row = np.zeros((1, 128), np.int32)
            row[0, : len(ids)] = ids
            ones, positions = np.ones_like(row), np.arange(128, dtype=np.int32)[None]
            pixels = np.zeros((1, 1, 64, 64, 3), np.uint8)
            if images:
                colour = np.asarray(Image.open(io.BytesIO(record.images[0])))[0, 0]
                pixels[:] = colour
            mask = np.ones((1, 1), bool)
            nothing = np.full_like(row, IGNORE)
            batch = Batch(row, nothing, ones, positions, 0 * ones, pixels, mask)
            table = np.asarray(log_probabilities(batch))[0]
            logs += [table[i - 1, ids[i]] for i in range(1, len(ids)) if supervised[i]]
        assert got[task] == pytest.approx(math.exp(-np.mean(logs)), rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"task": "ocr"}, "of task 'ocr'"), ({"folder": "nowhere"}, "nowhere")],
)
def test_mistakes_are_named(workdir, source, tmp_path, changes, message):
    folder = tmp_path / changes.pop("folder") if "folder" in changes else source
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        evaluate.evaluate(workdir, folder, limit=9, rows=2, **changes)
