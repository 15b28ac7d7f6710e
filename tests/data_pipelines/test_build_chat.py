"""If these break, users' fine-tuning files are refused, or trained on with mistakes nobody saw."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from data_pipelines import schema
from data_pipelines.build.chat.job import REJECTS, ChatConfig, build_chat
from data_pipelines.stream.config import SourceConfig, StreamConfig
from data_pipelines.stream.sample import Sample, make_sample
from data_pipelines.stream.source import read_records
from qwenvl_jax.text.tokenizer import load_tokenizer

ROOT = Path(__file__).parents[2]
SMALL = ChatConfig(seq_len=120, image_slots=2, num_queries=4, max_bad=0.9)


def png(colour, size=(6, 5)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


def entry(*values, name="a", first="user"):
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    turns = [{"from": roles[i % 2], "value": value} for i, value in enumerate(values)]
    return {"id": name, "conversations": turns}


ONE = "Picture 1: <img>sub/1.png</img>\n"
GOOD = [
    entry(ONE + "Where?", "<ref>It</ref><box>(1,2),(1,999)</box>", "Sure?", "Yes."),
    entry(ONE + "Picture 2: <img>2.png</img>\n这两张图有什么不同?", "颜色不同。"),
    entry("Hello", "Hi."),
]
BAD = {
    "bad_conversations": {"id": "x"},
    "bad_entry": "text",
    "bad_value": {"conversations": [{"from": "user", "value": 3}]},
    "bad_roles": entry("a", "b", first="assistant"),
    "unbalanced_tags": entry("a", "<ref>b<box>(1,2),(3,4)</box>"),
    "bad_box": entry("a", "<ref>b</ref><box>(1,2),(3,1000)</box>"),
    "empty_answer": entry("a", " "),
    "missing_image": entry("<img>3.png</img>a", "b"),
    "unsafe_path": entry("<img>../secret.png</img>a", "b"),
    "image_unreadable": entry("<img>text.png</img>a", "b"),
    "too_many_images": entry(3 * "<img>2.png</img>", "b"),
    "too_long": entry("a", "b " * 200),
    "bad_utf8": entry("a", "\ud83d"),
}


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    (images / "sub/1.png").write_bytes(png("red"))
    (images / "2.png").write_bytes(png("blue"))
    (images / "text.png").write_bytes(b"no picture")
    (tmp_path / "secret.png").write_bytes(png("green"))
    return tmp_path


def build(folder, text, config=SMALL):
    (folder / "train.json").write_text(text, "utf-8")
    return build_chat(
        folder / "train.json", images=folder / "images", out=folder / "out", config=config
    )


def as_lines(entries):
    return "\n".join(map(json.dumps, entries)) + "\n"


@pytest.mark.parametrize("write", [json.dumps, as_lines, lambda x: "\ufeff" + json.dumps(x)])
def test_a_file_becomes_records_that_stream(folder, write):
    """Lists and lines alike; what is written is what training reads."""
    assert build(folder, write(GOOD)).records == {"chat_en": 2, "chat_zh": 1}
    english = read_records(folder / "out/chat_en", limit=9)
    (chinese,) = read_records(folder / "out/chat_zh", limit=9)
    assert english[0].images == (png("red"),) and english[1].images == ()
    assert chinese.images == (png("red"), png("blue"))
    assert chinese.turns[0] == schema.Turn(
        "user", "Picture 1: <img>0</img>\nPicture 2: <img>1</img>\n这两张图有什么不同?"
    )
    assert [turn.role for turn in english[0].turns] == ["user", "assistant"] * 2
    tokenizer = load_tokenizer()
    config = StreamConfig(
        sources=(SourceConfig("chat_en", "", "en", 1.0),), tokenizer="", seq_len=SMALL.seq_len,
        image_slots=SMALL.image_slots, image_size=8, num_queries=SMALL.num_queries, global_rows=64,
    )  # fmt: skip
    for record in (*english, chinese):
        assert isinstance(make_sample(schema.pack(record), config, tokenizer), Sample)


def as_page(entries):
    """As people write lists: an entry over several lines."""
    return json.dumps(entries, indent=2)


@pytest.mark.parametrize("write", [as_page, as_lines])
def test_every_mistake_is_skipped_and_listed_with_its_place(folder, write):
    outcome = build(folder, write([*GOOD, *BAD.values()]))
    assert outcome.rejected == {reason: 1 for reason in BAD}
    assert sum(outcome.records.values()) == len(GOOD)
    listed = [json.loads(line) for line in (folder / "out" / REJECTS).open(encoding="utf-8")]
    assert [line["reason"] for line in listed] == list(BAD)
    assert all("detail" in line for line in listed if line["reason"] in ("bad_box", "too_long"))
    first = len(GOOD)
    places = [f"line {first + 1 + i}" for i in range(len(BAD))]
    if write is as_page:
        page = (folder / "train.json").read_text("utf-8").splitlines()
        begins = [n for n, line in enumerate(page, 1) if re.match(r'  [{"]', line)]
        places = [f"entry {first + i} (line {begins[first + i]})" for i in range(len(BAD))]
    assert [line["where"] for line in listed] == [f"train.json: {place}" for place in places]
    manifest = json.loads((folder / "out/chat_en/manifest.json").read_text("utf-8"))
    assert manifest["rejected"] == outcome.rejected


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("<box>(5,1),(4,2)</box>", "bad_box"),
        ("<box>(1,5),(2,4)</box>", "bad_box"),
        ("<box>(1,2)</box>", "bad_box"),
        ("<quad>(1,2),(3,4)</quad>", "bad_box"),
        ("<box>(-1,2),(3,4)</box>", "bad_box"),
        ("<box>(1,2),(3,4)", "unbalanced_tags"),
        ("a</ref>", "unbalanced_tags"),
        ("<ref>a<ref>b</ref></ref>", "unbalanced_tags"),
        ("<img>2.png", "unbalanced_tags"),
        ("<img>2.png</img>", "bad_roles"),  # the assistant cannot show a picture
    ],
)
def test_markup(folder, answer, reason):
    assert build(folder, json.dumps([*GOOD, entry("a", answer)])).rejected == {reason: 1}


def test_broken_lines_do_not_stop_a_file(folder):
    text = as_lines(GOOD[:1]) + '{"id": \n\n' + "[" * 100_000 + "\n" + as_lines(GOOD[1:])
    assert build(folder, text).rejected == {"bad_json": 2}
    where = [json.loads(line)["where"] for line in (folder / "out" / REJECTS).open()]
    assert where == ["train.json: line 2", "train.json: line 4"]


@pytest.mark.parametrize("text", ["", "[]", "[1", "[1]", "\n", "[1 2]", "[1,]", "[1] x", "[,1]"])
def test_a_file_without_a_dialogue_is_refused(folder, text):
    with pytest.raises(ValueError, match="train.json"):
        build(folder, text)


def test_too_many_bad_entries_are_refused(folder):
    """And leave no source behind that a run could take for whole, not even an earlier one."""
    build(folder, json.dumps(GOOD))
    with pytest.raises(ValueError, match="1 of 4 entries.*bad_box.*max_bad=0.2"):
        build(folder, json.dumps([*GOOD, BAD["bad_box"]]), SMALL._replace(max_bad=0.2))
    assert not list(folder.glob("out/*/manifest.json"))
    build(folder, json.dumps([*GOOD, BAD["bad_box"]]), SMALL._replace(max_bad=0.25))


def test_mistakes_of_the_command_are_named(folder):
    with pytest.raises(ValueError, match="--max_bad=1"):
        build(folder, json.dumps(GOOD), SMALL._replace(max_bad=1.0))
    with pytest.raises(ValueError, match="--images=.*nowhere"):
        build_chat(folder / "x", images=folder / "nowhere", out=folder, config=SMALL)
    with pytest.raises(ValueError, match="--input=.*nothing.json"):
        build_chat(folder / "nothing.json", images=folder, out=folder / "out", config=SMALL)


def test_the_command(folder):
    (folder / "train.json").write_text(json.dumps([*GOOD, BAD["bad_box"]]))
    paths = [f"--{name}={folder / name}" for name in ("images", "out")]
    command = [sys.executable, "-m", "data_pipelines.build", "chat", *paths]
    command += [f"--input={folder / 'train.json'}", "--max_bad=0.5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "chat_en: 2 dialogues" in done.stdout and "rejected, bad_box: 1" in done.stdout
