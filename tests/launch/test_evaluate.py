"""Scores of a checkpoint on sources of every task, from shards to lines on disk."""

import functools
import io
import json
import math

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from data_pipelines.build import shards
from data_pipelines.schema import Record, Region, pack
from launch import evaluate, exemplars, options, perplexity, scoring, stage
from launch.loading import load_checkpoint
from launch.source_scores import HowAsked
from qwenvl_jax.batch import IGNORE, Batch
from qwenvl_jax.image.decode import decode
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
    found = evaluate.evaluate(workdir, source, HowAsked(99, 2, new_tokens=5))
    lines = [json.loads(line) for line in (workdir / "scores.jsonl").read_text().splitlines()]
    assert lines == json.loads(json.dumps(found))
    by_name = {(s["task"], s["metric"]): s for s in lines}
    metrics = {"caption": {"cider", "bleu_4"}, "referring": {"iou_0.5"}, "text": set()}
    metrics["vqa"] = {"exact_match", "anls", "relaxed_accuracy"}
    expected = {(t, m) for t, names in metrics.items() for m in {*names, "perplexity"}}
    assert by_name.keys() == expected
    keys = {"checkpoint", "step", "data", "data_sha256", "limit", "task", "language", "records"}
    keys |= {"skipped", "shots", "prompt", "decoding", "metric", "value", "blind", "normaliser"}
    assert all(line.keys() == keys and math.isfinite(line["value"]) for line in lines)
    cider = by_name["caption", "cider"]
    assert cider["records"] == 3 and cider["skipped"] == {"image_unreadable": 1}
    assert cider["prompt"] == "<img></img>Generate the caption in English:"
    assert cider["decoding"]["max_new_tokens"] == 5
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
    decoding = scoring._decoding(checkpoint, "vqa", 1)
    together = scoring._answer(checkpoint, asked, decoding, 2)
    assert together == [scoring._answer(checkpoint, [one], decoding, 1)[0] for one in asked]
    moved = scoring._shuffled(asked)
    for mine, other in zip(asked, moved, strict=True):
        assert (mine.prompt.images[0] != other.prompt.images[0]).any()
    assert scoring._shuffled(asked[:1]) is None


@functools.cache
def log_probabilities(config):
    return jax.jit(
        lambda params, batch: jax.nn.log_softmax(
            qwenvl.logits(config, params, qwenvl.hidden(config, params, batch))
        )
    )


def log_table(checkpoint, ids: list[int], *files: bytes) -> np.ndarray:
    """Log-probabilities after every token of one row, of all tokens."""
    row = np.zeros((1, 128), np.int32)
    row[0, : len(ids)] = ids
    ones, positions = np.ones_like(row), np.arange(128, dtype=np.int32)[None]
    pixels = np.zeros((1, 1, 64, 64, 3), np.uint8)
    for file in files:
        pixels[:] = np.asarray(Image.open(io.BytesIO(file)))[0, 0]  # of one colour
    mask, nothing = np.ones((1, 1), bool), np.full_like(row, IGNORE)
    batch = Batch(row, nothing, ones, positions, 0 * ones, pixels, mask)
    return np.asarray(log_probabilities(checkpoint.model)(checkpoint.params, batch))[0]


def test_perplexity_is_that_of_the_supervised_tokens(workdir):
    """Against probabilities of whole rows, one record at a time, without chunks or padding."""
    checkpoint = load_checkpoint(workdir)
    given = [r for r in records() if r.task in ("caption", "text") and r.key != "bad"]
    training, _, stream = stage.read(ConfigDict(checkpoint.run_config))
    how = {"rows": 2, "stream": stream, "chunk": training.loss_chunk}
    got = {s["task"]: s["value"] for s in perplexity.score_records(checkpoint, given, **how)}
    for task in ("caption", "text"):
        logs = []
        for record in (r for r in given if r.task == task):
            images = len(record.images)
            spans = prompts.task_spans(
                task, language=record.language, num_images=images, text=record.text
            )
            ids, supervised = prompts.encode_spans(spans, checkpoint.tokenizer, num_queries=16)
            table = log_table(checkpoint, ids.tolist(), *record.images)
            logs += [table[i - 1, ids[i]] for i in range(1, len(ids)) if supervised[i]]
        assert got[task] == pytest.approx(math.exp(-np.mean(logs)), rel=1e-4)


def choice(number: int, **meta) -> Record:
    """Three options, of which the second is right."""
    meta |= {"choices": ["a dog", "a cat", "狗"]}
    shared = {"question": "what?", "text": "a cat", "meta": meta}
    return Record(f"m{number}", "vqa", "en", (png(number),), **shared)


def test_options_are_weighed_one_by_one(workdir):
    """Against whole rows of probabilities, an option at a time; ScienceQA's context line, or none.
    The score of the run must be that of these picks.
    """
    checkpoint = load_checkpoint(workdir)
    given = [choice(0), choice(1, hint=""), choice(2, hint="a hint")]
    assert options.prompt(given[1]) == (
        "Context: N/A\nQuestion: what?\nOptions: A. a dog\nB. a cat\nC. 狗\nAnswer:"
    )
    assert options.prompt(given[0]).startswith("Question: ")
    want = []
    for number, record in enumerate(given):
        losses = []
        for letter in "ABC":
            text = checkpoint.tokenizer.encode(options.prompt(record))
            end = checkpoint.tokenizer.encode(f" {letter}")
            head = checkpoint.tokenizer.encode("<img>" + "<imgpad>" * 16 + "</img>", special=True)
            ids = [*head, *text, *end]
            table = log_table(checkpoint, ids, png(number))
            first = len(ids) - len(end)
            losses.append(-np.mean([table[i - 1, ids[i]] for i in range(first, len(ids))]))
        want.append(int(np.argmin(losses)))
    shown = [[decode(record.images[0], 64)] for record in given]
    assert options.chosen(checkpoint, given, shown, rows=4, chunk=128) == want
    (group,) = scoring.score_records(checkpoint, given, rows=4, chunk=128)
    scores = {score["metric"]: score for score in group.scores}
    assert scores["option_accuracy"]["value"] == pytest.approx(want.count(1) / 3)
    assert scores["option_accuracy"]["prompt"] == options.prompt(given[0])
    assert not options.is_choice(given[0]._replace(text="a cow"))


def test_exemplars_stand_before_the_question(workdir, source):
    """Another's picture or answer in the wrong place would be scored as if it were few-shot."""
    checkpoint = load_checkpoint(workdir)
    pool = [r for r in records() if r.task == "vqa"]
    asked = choice(4)
    (one,), _ = scoring._ask(checkpoint, [asked], exemplars.Shots(2, pool))
    solved = "<img></img> a dog? Answer: a cat\n"
    assert one.text == 2 * solved + "<img></img> what? Answer:"
    runs = one.text.replace("<img></img>", "<img>" + "<imgpad>" * 16 + "</img>")
    assert checkpoint.tokenizer.decode(one.prompt.tokens.tolist()) == runs
    assert (one.prompt.images[-1] == decode(asked.images[0], 64)).all()
    drawn = [p.tobytes() for p in one.prompt.images[:2]]
    assert len(set(drawn)) == 2 and set(drawn) < {decode(png(n), 64).tobytes() for n in range(3)}
    said = scoring._read(one, " a cat\n<img>", False)
    assert said.text == "a cat" and said.ended
    (two,), _ = scoring._ask(checkpoint, [choice(3)], exemplars.Shots(2, pool))
    first, second = scoring._shuffled([one, two])  # of the blind answers
    assert [p.tobytes() for p in first.prompt.images[:2]] == drawn
    assert (first.prompt.images[2] == two.prompt.images[2]).all()
    assert (second.prompt.images[2] == one.prompt.images[2]).all()
    with pytest.raises(ValueError, match="hold 1 records of task 'vqa'"):
        exemplars.Shots(2, pool[:1]).before(asked)
    with pytest.raises(ValueError, match="is what is scored"):
        evaluate.evaluate(workdir, source, HowAsked(9, 2, shots=1, exemplars=str(source)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"task": "ocr"}, "of task 'ocr'"), ({"folder": "nowhere"}, "nowhere")],
)
def test_mistakes_are_named(workdir, source, tmp_path, changes, message):
    folder = tmp_path / changes.pop("folder") if "folder" in changes else source
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        evaluate.evaluate(workdir, folder, HowAsked(9, 2, **changes))
