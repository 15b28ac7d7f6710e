"""An export as the released code expects it, by what was trained and with a user's code beside."""

import json
import shutil
from pathlib import Path

import pytest

from launch import convert, weights
from launch.chat_format import trained_format
from qwenvl_jax.checkpoint import manifest
from qwenvl_jax.checkpoint.released_code import FILES
from qwenvl_jax.checkpoint.stored import Stored
from tests.workdirs import write_workdir

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """The reference model, imported as a chat model."""
    folder = tmp_path_factory.mktemp("export")
    shutil.copytree(REFERENCE, folder / "in", ignore=shutil.ignore_patterns("c*.npz", "clip"))
    (folder / "in" / "generation_config.json").write_text('{"chat_format": "chatml"}')
    assert convert.main(["import", f"--qwen_vl={folder}/in", f"--out={folder}/work"]) == 0
    return folder / "work"


def values(out: Path, name: str) -> dict:
    return json.loads((out / f"{name}.json").read_text())


def export(work: Path, out: Path, **more) -> None:
    """What the command does before it compiles a model to verify."""
    weights.export_weights(work, out, dtype="bfloat16", shard_bytes=10**9, **more)


def test_a_chat_model_with_its_code(work, tmp_path, capsys):
    """Without these keys and files the released `chat` raises, or the tokenizer is not found."""
    code = tmp_path / "code"
    code.mkdir()
    for name in (*FILES, "extra.py", "LICENSE"):
        (code / name).write_text("IMG_TOKEN_SPAN = 16\n")
    out = tmp_path / "out"
    export(work, out, code=code)
    manifest.verify(out)
    assert {path.name for path in out.glob("*.py")} == {*FILES, "extra.py"}
    assert values(out, "generation_config")["chat_format"] == "chatml"
    assert values(out, "tokenizer_config")["tokenizer_class"] == "QWenTokenizer"
    config = values(out, "config")
    assert config["visual"]["n_queries"] == 16
    # The copied code has 16 positions an image; the vocabulary stays too large for the model.
    assert list(config["not_run_by_released_code"]) == ["vocab_size"]
    told = capsys.readouterr().out
    assert "chat_format chatml (as imported" in told
    card = (out / "README.md").read_text()
    for line in told.splitlines():
        if line.startswith("note: "):
            assert line.removeprefix("note: ") in card
    assert "vocab_size: 320 rows" in card and "dialogues in ChatML" in card


def test_mistakes_are_told_before_anything_is_written(work, tmp_path, capsys):
    out = tmp_path / "out"
    assert convert.main(["export", f"--checkpoint={work}", f"--out={out}", "--code=none"]) == 2
    assert "--code=none: no such folder" in capsys.readouterr().err
    assert not out.exists()
    with pytest.raises(SystemExit) as end:
        convert.main(["export", f"--checkpoint={work}", f"--out={out}", "--layout=other"])
    assert end.value.code == 2


def trained_on(tmp_path: Path, sources: dict, step: int = 9) -> str:
    stored = object.__new__(Stored)
    stored.workdir, stored.step = tmp_path, step
    stored.run_config = {"data": {"sources": sources}}
    return trained_format(stored)[0]


def test_dialogues_among_the_sources_make_a_chat_model(tmp_path):
    """A stage that trained on dialogues must not be exported as one that continues text."""
    vqa = {"path": str(tmp_path / "vqa_en"), "weight": 1.0}
    chat = {"path": str(tmp_path / "chat_en"), "weight": 0.5}
    assert trained_on(tmp_path, {"vqa_en": vqa}) == "raw"
    assert trained_on(tmp_path, {"vqa_en": vqa, "chat_en": chat}) == "chatml"
    assert trained_on(tmp_path, {"vqa_en": vqa, "chat_en": chat}, step=0) == "raw"
    assert trained_on(tmp_path, {"chat_en": chat | {"weight": 0.0}}) == "raw"
    later = {"weight": 0.0, "changes": [{"step": 5, "weight": 1.0}]}
    assert trained_on(tmp_path, {"chat_en": chat | later}) == "chatml"
    # The manifest of the data counts more than the name that a page gives them.
    (tmp_path / "chat_en").mkdir()
    (tmp_path / "chat_en" / "manifest.json").write_text('{"task": "vqa"}')
    assert trained_on(tmp_path, {"chat_en": chat}) == "raw"
    (tmp_path / "chat_en" / "manifest.json").write_text('{"task": "chat"}')
    assert trained_on(tmp_path, {"mine": chat}) == "chatml"


def test_a_model_with_a_vocabulary_of_its_own_returns_with_it(tmp_path, capsys):
    """Imported with the Qwen vocabulary, its export would carry a vocabulary of other ids."""
    source = tmp_path / "demo"
    source.mkdir()
    write_workdir(source)
    out, back, again = (tmp_path / name for name in ("out", "back", "again"))
    export(source, out)
    assert not (out / "tokenizer_config.json").exists()
    limits = values(out, "config")["not_run_by_released_code"]
    assert {"tokenizer_type", "visual.n_queries", "visual.position_grid"} <= set(limits)
    assert convert.main(["import", f"--qwen_vl={out}", f"--out={back}"]) == 0
    assert f"config.data.tokenizer={out / 'tokenizer.model'}" in capsys.readouterr().out
    export(back, again)
    same = (again / "tokenizer.model").read_bytes() == (source / "tokenizer.model").read_bytes()
    assert same and values(again, "config") == values(out, "config")
