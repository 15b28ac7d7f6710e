"""Entries of other tools, and dialogues mended as the released fine-tuning code mends them."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from data_pipelines import schema
from data_pipelines.build.chat.dialogue import read_dialogue
from data_pipelines.build.chat.job import REJECTS, ChatConfig, build_chat
from data_pipelines.build.convert.entry import EntryError
from data_pipelines.stream.config import SourceConfig, StreamConfig
from data_pipelines.stream.sample import make_text
from data_pipelines.stream.source import read_records
from qwenvl_jax.batch import IGNORE
from qwenvl_jax.text.tokenizer import load_tokenizer

TWO = ["a.jpg", "b/c.jpg"]


def qwen(*texts, **more):
    turns = [{"from": ("user", "assistant")[i % 2], "value": t} for i, t in enumerate(texts)]
    return {"conversations": turns} | more


def llava(*texts, **more):
    turns = [{"from": ("human", "gpt")[i % 2], "value": t} for i, t in enumerate(texts)]
    return {"conversations": turns} | more


def swift(*texts, **more):
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": t} for i, t in enumerate(texts)]} | more


PLACED = ("Picture 1: <img>0</img>\nWhat?", "Red.")
PARTS = [{"type": "image", "image": "a.jpg"}, {"type": "text", "text": "What?"}]


@pytest.mark.parametrize(
    "entry, turns, paths",
    [
        (qwen("<image>\nWhat?", "Red.", image="a.jpg"), PLACED, ["a.jpg"]),
        (qwen("<image>What?", "Red.", images=["a.jpg"]), PLACED, ["a.jpg"]),
        (llava("<image>\nWhat?", "Red.", image="a.jpg"), PLACED, ["a.jpg"]),
        (swift("<image>What?", "Red.", images=["a.jpg"]), PLACED, ["a.jpg"]),
        (swift("<image>What?", "Red.", images=[{"path": "a.jpg"}]), PLACED, ["a.jpg"]),
        ({"query": "<image>What?", "response": "Red.", "images": ["a.jpg"]}, PLACED, ["a.jpg"]),
        (swift(PARTS, "Red."), ("<img>0</img>\nWhat?", "Red."), ["a.jpg"]),
        (
            swift("<image><image>\nAnd?", "Two.", images=TWO),
            ("Picture 1: <img>0</img>\nPicture 2: <img>1</img>\nAnd?", "Two."),
            TWO,
        ),
        (
            llava("<image>\nA?", "B.", "<image>\nC?", "D.", images=TWO),
            ("Picture 1: <img>0</img>\nA?", "B.", "Picture 2: <img>1</img>\nC?", "D."),
            TWO,
        ),
        (
            {"history": [["A?", "B."]], "query": "C?", "response": "D."},
            ("A?", "B.", "C?", "D."),
            [],
        ),
        # The text shows it, the field says it once more.
        (
            qwen("<img>a.jpg</img>\nWhat?", "R.", image="a.jpg"),
            ("<img>0</img>\nWhat?", "R."),
            ["a.jpg"],
        ),
        (llava("A?", "B.", image=None, images=[]), ("A?", "B."), []),
    ],
)  # fmt: skip
def test_forms_mean_the_same(entry, turns, paths):
    """Taken as text, `<image>` is learnt as seven letters and the picture is never seen."""
    dialogue = read_dialogue(entry)
    assert tuple(turn.text for turn in dialogue.turns) == turns
    roles = tuple(("user", "assistant")[i % 2] for i in range(len(turns)))
    assert tuple(turn.role for turn in dialogue.turns) == roles
    assert list(dialogue.paths) == paths


def test_a_system_text_beside_the_turns():
    dialogue = read_dialogue(llava("A?", "B.", system="Be brief."))
    assert dialogue.turns[0] == schema.Turn("system", "Be brief.") and len(dialogue.turns) == 3


@pytest.mark.parametrize(
    "entry, reason",
    [
        (llava("What?", "Red.", image="a.jpg"), "picture_not_in_text"),
        (llava("<image>\nWhat?", "Red."), "picture_not_in_text"),
        (llava("<image>\nWhat?", "Red.", images=TWO), "picture_not_in_text"),
        (llava("<image><image>What?", "Red.", image="a.jpg"), "picture_not_in_text"),
        (llava("What?", "<image>", image="a.jpg"), "picture_not_in_text"),
        (qwen("<img>a.jpg</img>\nWhat?", "Red.", image="b.jpg"), "picture_not_in_text"),
        (qwen("<img>a.jpg</img><image>What?", "Red.", image="a.jpg"), "picture_not_in_text"),
        (llava("<image>What?", "Red.", image=3), "bad_image"),
        (llava("<image>What?", "Red.", image="a</img><img>b"), "bad_image"),
        (llava("<image>What?", "Red.", images=[{"bytes": "xx"}]), "bad_image"),
        (llava("<video>What?", "Red.", videos=["a.mp4"]), "bad_videos"),
        (swift("<ref-object>?", "<bbox>", objects={"bbox": [[1, 2, 3, 4]]}), "bad_objects"),
        (swift([{"type": "audio", "audio": "a.wav"}], "Red."), "bad_content"),
        ({"messages": [{"role": "user"}]}, "bad_content"),
        ({"query": "A?", "response": "B.", "history": [["A?"]]}, "bad_history"),
        ({"query": "A?"}, "bad_response"),
    ],
)
def test_entries_that_mean_something_else_are_refused(entry, reason):
    with pytest.raises(EntryError) as error:
        read_dialogue(entry)
    assert error.value.reason == reason


def texts(dialogue):
    return [turn.text for turn in dialogue.turns]


def test_mended_as_released():
    """Strict by default; mended, each change has its name for the count."""
    late = {
        "conversations": [{"from": "assistant", "value": "Hi."}, *qwen("A?", "B.")["conversations"]]
    }
    cases = [
        (late, "bad_roles", ["A?", "B."], ["first_turn_dropped"]),
        (qwen("A?", "B.", "C?"), "bad_roles", ["A?", "B."], ["last_question_dropped"]),
        (qwen("A?", " ", "C?", "D."), "empty_answer", ["C?", "D."], ["empty_answer_skipped"]),
    ]  # fmt: skip
    for entry, reason, kept, changes in cases:
        with pytest.raises(EntryError) as error:
            read_dialogue(entry)
        assert error.value.reason == reason and "--like_released" in str(error.value.__cause__)
        mended = read_dialogue(entry, mend=True)
        assert texts(mended) == kept and list(mended.changes) == changes
    for entry, reason in (
        (qwen("A?"), "no_answer"),
        (qwen("A?", ""), "no_answer"),
        (qwen("<img>a.jpg</img>A?", "", "C?", "D."), "empty_answer"),
    ):
        with pytest.raises(EntryError) as error:
            read_dialogue(entry, mend=True)
        assert error.value.reason == reason


def by_hand(turns, tokenizer):
    """(ids, labels) of a dialogue without pictures, as the released format is described."""
    special, newline = tokenizer.specials, tokenizer.encode("\n")
    ids, labels = [], []
    for role, text in [("system", "You are a helpful assistant."), *turns]:
        head = [*tokenizer.encode(role), *newline]
        said = tokenizer.encode(text)
        ids += [special.im_start, *head, *said, special.im_end, *newline]
        seen = said if role == "assistant" else [IGNORE] * len(said)
        labels += [special.im_start, *[IGNORE] * len(head), *seen, special.im_end, *newline]
    return ids, labels


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    out = io.BytesIO()
    Image.new("RGB", (6, 5), "red").save(out, "PNG")
    (tmp_path / "images/1.png").write_bytes(out.getvalue())
    return tmp_path


def run(folder, entries, **config):
    (folder / "train.json").write_text(json.dumps(entries))
    config = {"seq_len": 40, "image_slots": 2, "num_queries": 4, "max_bad": 0.9} | config
    return build_chat(
        folder / "train.json",
        images=folder / "images",
        out=folder / "out",
        config=ChatConfig(**config),
    )


def stream_config(seq_len):
    return StreamConfig(
        sources=(SourceConfig("chat_en", "", "en", 1.0),), tokenizer="", seq_len=seq_len,
        image_slots=2, image_size=8, num_queries=4, global_rows=64,
    )  # fmt: skip


def test_a_long_dialogue_is_cut_at_the_row(folder):
    """Wherever the row ends, also within an answer: the ids and labels of the dialogue by hand."""
    turns = ("one two three four five", "six seven eight nine ten " * 3, "more?", "yes " * 9)
    with pytest.raises(ValueError, match="1 of 1 entries"):
        run(folder, [qwen(*turns)])
    (line,) = map(json.loads, (folder / "out" / REJECTS).open())
    assert line["reason"] == "too_long" and "--like_released cuts it" in line["detail"]
    outcome = run(folder, [qwen(*turns), qwen("A?", "B.")], like_released=True)
    assert outcome.changed == {"cut_at_row": 1} and outcome.records == {"chat_en": 2}
    long, short = read_records(folder / "out/chat_en", limit=2)
    assert short.meta == {}
    tokenizer = load_tokenizer()
    ids, labels = by_hand([(t.role, t.text) for t in long.turns], tokenizer)
    for seq_len in (11, 24, 40, len(ids) - 1, len(ids), len(ids) + 5):
        text = make_text(schema.pack(long), stream_config(seq_len), tokenizer)
        size = min(seq_len, len(ids))
        np.testing.assert_array_equal(text.tokens, ids[:size])
        np.testing.assert_array_equal(text.targets, [*labels[1:size], IGNORE])
    assert (
        make_text(schema.pack(long._replace(meta={})), stream_config(40), tokenizer) == "too_long"
    )


def test_a_row_never_ends_within_an_image(folder):
    """Half an image's positions would take the features of another image."""
    entry = qwen("<img>1.png</img>A?", "b " * 5, "<img>1.png</img>C?", "d " * 40)
    run(folder, [entry, qwen("A?", "B.")], like_released=True, seq_len=60)
    record = next(r for r in read_records(folder / "out/chat_en", limit=2) if r.images)
    tokenizer = load_tokenizer()
    special = tokenizer.specials
    whole = make_text(schema.pack(record), stream_config(500), tokenizer).tokens
    seen = set()
    for seq_len in range(6, len(whole)):
        text = make_text(schema.pack(record), stream_config(seq_len), tokenizer)
        opened = int((whole[:seq_len] == special.img).sum())
        closed = int((whole[:seq_len] == special.img_end).sum())
        assert (text == "too_long") == (opened != closed), seq_len
        if text != "too_long":
            assert len(text.files) == closed and len(text.tokens) == seq_len
            seen.add(closed)
    assert seen == {0, 1, 2}


def test_pictures_are_judged_as_training_judges_them(folder):
    """A header shows neither a cut file nor a GIF's second frame."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    frames = [Image.fromarray(noise), Image.fromarray(noise[::-1].copy())]
    for form in ("bmp", "tiff", "png"):
        frames[0].save(folder / f"images/a.{form}")
    frames[0].save(folder / "images/a.jpg", quality=95)
    cut = (folder / "images/a.jpg").read_bytes()[:-300]
    (folder / "images/cut.jpg").write_bytes(cut)
    (folder / "images/cut.png").write_bytes((folder / "images/a.png").read_bytes()[:-2000])
    frames[0].save(folder / "images/a.gif", save_all=True, append_images=frames[1:])
    names = ("a.bmp", "a.tiff", "a.png", "a.jpg", "cut.jpg", "cut.png", "a.gif")
    entries = [qwen(f"<img>{name}</img>A?", "B.") for name in names]
    outcome = run(folder, entries)
    assert outcome.records == {"chat_en": 4}
    assert outcome.rejected == {"image_animated": 1, "image_truncated": 2}
