"""If these break, a model is trained and scored on answers that its pictures do not show.

Each answer is checked against the scene by other means than made it: objects counted in the record
or found as pixels that differ, sides read off boxes, texts parsed back.
"""

import io
import json
import random
from collections import Counter
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from data_pipelines import schema
from data_pipelines.build import shards
from data_pipelines.build.scenes import glyphs, kinds
from data_pipelines.build.scenes.captions import LANGUAGES
from data_pipelines.build.scenes.config import SceneConfig
from data_pipelines.build.scenes.layout import Split
from data_pipelines.build.scenes.make import build_scenes
from data_pipelines.build.scenes.records import draw_scene, held_out_kinds
from data_pipelines.build.scenes.tasks.every import TASKS, TRAINED_AS, task_records
from data_pipelines.build.scenes.tasks.signs import WORDS, draw_signs, place_signs
from data_pipelines.stream.config import SourceConfig, StreamConfig
from data_pipelines.stream.sample import Sample, make_sample
from data_pipelines.stream.source import read_records
from qwenvl_jax.text.markup import parse_marked
from qwenvl_jax.text.tokenizer import load_tokenizer
from tests.data_pipelines.scene_data import CONFIG, MANY, all_drawn, asks, middle, named

SMALL = SceneConfig(
    scenes=8, eval_scenes=6, text_scenes=600, task_scenes=12, kinds=20, shards=2, processes=1,
    vocab_size=760,
)  # fmt: skip
TEXT = {"en": "one two three four".split(), "zh": ["一个", "两个", "三个", "四个"]}


@pytest.fixture(scope="module")
def drawn():
    return all_drawn()


def each(drawn, task, split="train", count=MANY):
    """(scene's objects as name -> boxes in both languages, record of one ask) of many samples."""
    for index in range(count):
        records = task_records(CONFIG, drawn, task=task, split=split, index=index)
        name, how = f"{CONFIG.seed}/{split}/{task}/{index}", {}
        if task == "vqa":  # which says itself what scene it looks at
            meta = records["vqa_en"].meta
            assert meta["scene"].startswith(name + "/")
            name, repeat = meta["scene"], 0.6 if meta["form"] == "count" else 0.0
            how = {"often": (1, 3, 3, 2), "repeat": repeat}
        elif split == "train" and task != "chat":
            how = {"often": (1, 3, 3, 2), "repeat": 0.5 if task == "grounding" else 0.25}
        scene, _ = draw_scene(CONFIG, drawn, name, **how)
        for whole in records.values():
            there: dict[str, list] = {}
            for thing in scene.objects:
                box = (thing.x, thing.y, thing.x + thing.width, thing.y + thing.height)
                name = getattr(drawn[thing.glyph].kind, whole.language)
                there.setdefault(name, []).append([v / CONFIG.image_size for v in box])
            for record in asks(whole):
                yield there, record


def test_counts_and_sides(drawn):
    """Numbers, zero among them, and the side on which the first thing of the question is; no
    answer to either form is common where one is scored, or one who does not look would score well.
    """
    forms, answers = Counter(), Counter()
    for _, record in each(drawn, "vqa", "validation"):
        forms[record.meta["form"]] += 1
        answers[record.text] += 1
    assert 2 * MANY * 0.4 < forms["relation"] < 2 * MANY * 0.6
    assert len(answers) == 16 and max(answers.values()) < 0.22 * MANY
    for there, record in each(drawn, "vqa"):
        asked = named(record.question, drawn, record.language)
        if "How many" in record.question or "几个" in record.question:
            number = len(there.get(asked[0], ()))
            zero = "zero" if record.language == "en" else "零个"
            assert len(asked) == 1 and record.text == [zero, *TEXT[record.language]][number]
            continue
        across, down = middle(there[asked[0]][0]) - middle(there[asked[1]][0])
        assert len(there[asked[0]]) == len(there[asked[1]]) == 1
        sides = ("left", "right", "above", "below")
        if record.language == "zh":
            sides = ("左边", "右边", "上面", "下面")
        beside = abs(across) > abs(down)
        side = sides[int(across > 0)] if beside else sides[2 + int(down > 0)]
        assert record.text == side


def test_grounded_phrases_lie_on_their_objects(drawn):
    """Every kind is a phrase of the caption, at its span, with the boxes of all its objects."""
    for there, record in each(drawn, "grounding"):
        assert len(record.regions) == len(there)
        for region in record.regions:
            start, stop = region.span
            assert record.text[start:stop] == region.phrase
            (name,) = named(region.phrase, drawn, record.language)
            assert sorted(map(list, region.boxes)) == sorted(there[name])


def test_a_phrase_refers_to_one_object(drawn):
    for there, record in each(drawn, "referring"):
        (region,) = record.regions
        (name,) = named(region.phrase, drawn, record.language)
        boxes = sorted(there[name], key=lambda box: middle(box)[0])
        if len(region.boxes) > 1 or len(boxes) == 1:
            assert sorted(map(list, region.boxes)) == sorted(boxes)
        else:
            last = "right" in region.phrase or "右" in region.phrase
            assert list(region.boxes[0]) == boxes[-1 if last else 0]
            assert last or "left" in region.phrase or "左" in region.phrase


def test_what_is_in_a_box(drawn):
    for there, record in each(drawn, "grounded_caption"):
        (name,) = named(record.text, drawn, record.language)
        assert list(record.regions[0].boxes[0]) in there[name]


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_fill_their_quadrilaterals(language):
    """What signs change of a picture is what lies in their quadrilaterals, to a pixel; the corners
    go clockwise from top-left.
    """
    counted = Counter()
    ys, xs = np.mgrid[:64, :64] + 0.5  # centres of pixels
    for seed in range(40):
        signs = place_signs(random.Random(seed), language=language, image_size=64)
        counted[len(signs)] += 1
        changed, depth = np.zeros((64, 64), bool), np.full((64, 64), -64.0)
        for colour in ((255, 0, 255), (0, 255, 0)):  # no paint looks like both
            under = Image.new("RGB", (64, 64), colour)
            changed |= (np.asarray(draw_signs(signs, under)) != np.asarray(under)).any(-1)
        for sign in signs:
            assert sign.word in WORDS[language]
            corners = sign.corners()
            (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners
            assert x0 < x1 and x3 < x2 and y0 < y3 and y1 < y2
            inside = np.full((64, 64), 64.0)  # distance to the nearest edge
            for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
                across = (bx - ax) * (ys - ay) - (by - ay) * (xs - ax)
                inside = np.minimum(inside, across / np.hypot(bx - ax, by - ay))
            depth = np.maximum(depth, inside)
        assert not changed[depth < -1].any() and changed[depth > 1].all()
        assert [s.center[1] for s in signs] == sorted(s.center[1] for s in signs)
    assert counted[0] == 0 and counted[1] > 5 and counted[2] > 5


def test_ocr_records_name_the_words(drawn):
    for _, record in each(drawn, "ocr", count=20):
        assert Image.open(io.BytesIO(record.images[0])).size == (64, 64)
        for region in record.regions:
            assert region.phrase in WORDS[record.language]
            assert len(region.quads[0]) == 8 and 0 <= min(region.quads[0]) <= 1


def test_dialogues_tell_the_truth(drawn):
    """Numbers of dialogues about one picture, boxes in answers, and which of two pictures."""
    forms, checked = Counter(), Counter()
    for there, record in each(drawn, "chat"):
        form = record.meta["form"]
        forms[form] += 1
        assert len(record.images) == {"one": 1, "two": 2, "none": 0}[form]
        assert record.turns[0].text.count("<img>") == len(record.images)
        if form != "one":
            continue
        for ask, answer in zip(record.turns[::2], record.turns[1::2], strict=True):
            said = named(ask.text, drawn, record.language)
            if "How many" in ask.text or "几个" in ask.text:
                number = len(there.get(said[0], ()))
                assert answer.text in (["zero", "零个"] if not number else
                                       [TEXT[k][number - 1] for k in LANGUAGES])  # fmt: skip
                checked["count"] += 1
            elif "<box>" in answer.text:
                _, (marked,) = parse_marked(answer.text)
                for box in marked.boxes:
                    nearest = min(np.abs(np.subtract(box, b)).max() for b in there[said[0]])
                    assert nearest < 0.00101
                checked["box"] += 1
            elif len(said) == 2:
                checked["side"] += 1
            else:
                assert set(named(answer.text, drawn, record.language)) == set(there)
                checked["all"] += 1
    assert min(forms[form] for form in ("one", "two", "none")) > 10
    assert min(checked[form] for form in ("count", "box", "side", "all")) > 5, checked


def test_which_of_two_pictures(drawn):
    shown = 0
    for index in range(MANY):
        pair = [
            draw_scene(CONFIG, drawn, f"{CONFIG.seed}/train/chat/{index}/{which}")[0]
            for which in ("first", "second")
        ]
        record = task_records(CONFIG, drawn, task="chat", split="train", index=index)["chat_en"]
        if record.meta["form"] != "two":
            continue
        held = [{drawn[thing.glyph].kind.en for thing in scene.objects} for scene in pair]
        ask, answer = record.turns[0].text, record.turns[1].text
        if answer == "Yes.":
            assert held[0] == held[1]
        else:
            (name,) = named(ask.split("Which picture")[1], drawn, "en")
            assert [name in names for names in held] == [
                answer == "Picture 1.",
                answer == "Picture 2.",
            ]
            shown += 1
        number = int(record.turns[2].text[-2]) - 1
        assert set(named(record.turns[3].text, drawn, "en")) == held[number]
    assert shown > 10


def test_training_relates_no_held_out_kind(drawn):
    held = {drawn[i].kind.en for i in held_out_kinds(CONFIG, drawn)}
    for split in get_args(Split):
        asked = set()
        for _, record in each(drawn, "vqa", split):
            if "relative to" in record.question:
                asked |= set(named(record.question, drawn, "en"))
        assert bool(asked & held) == (split == "test")


def test_the_set_streams_and_is_the_same_every_time(tmp_path):
    """Every record of every source becomes a sample under the set's own tokenizer; a second build,
    in two processes, gives the same bytes; no picture is in two splits.
    """
    build_scenes(SMALL, tmp_path / "a")
    build_scenes(SMALL._replace(processes=2), tmp_path / "b")
    about = json.loads((tmp_path / "a/tokenizer.json").read_text())
    tokenizer = load_tokenizer(tmp_path / "a/tokenizer.model")
    assert about["vocab_size"] <= SMALL.vocab_size
    config = StreamConfig(
        sources=(SourceConfig("x", "", "en", 1.0),), tokenizer="", seq_len=256, image_slots=2,
        image_size=64, num_queries=16, global_rows=64,
    )  # fmt: skip
    pictures: dict[bytes, str] = {}
    for task in (*TASKS, "told"):
        for language in LANGUAGES:
            for split in get_args(Split):
                folder = f"{split}/{task}_{language}"
                manifest = shards.read_manifest(tmp_path / "a" / folder)
                assert manifest == shards.read_manifest(tmp_path / "b" / folder)
                assert (manifest["task"], manifest["language"]) == (
                    TRAINED_AS.get(task, task),
                    language,
                )
                records = read_records(tmp_path / "a" / folder, limit=99)
                count = {"train": 99 if task == "told" else 12}.get(split, 6)
                assert len(records) == count
                for record in records:
                    sample = make_sample(schema.pack(record), config, tokenizer)
                    assert isinstance(sample, Sample), (record, sample)
                    for image in record.images:
                        assert pictures.setdefault(image, split) == split
    names = {g.kind.zh for g in glyphs.usable(kinds.all_kinds(), count=SMALL.kinds)}
    for piece in (tokenizer.decode([i]) for i in range(about["vocab_size"])):
        assert not any(name in piece and name != piece.strip() for name in names), piece
    for name in ("tokenizer.model", "tokenizer.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
