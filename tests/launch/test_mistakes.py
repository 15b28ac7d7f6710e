"""A user's mistake, in any command: one line that names it, exit 2, before the work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from data_pipelines.build import __main__ as build
from launch import clip_score, convert, pages, stage
from qwenvl_jax import command_line
from qwenvl_jax.endings import Ending
from tests.small_stage import write_data

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_data(tmp_path_factory.mktemp("scenes"))
    (folder / "garbage.model").write_text("garbage")
    return folder


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("optim.steps=-5", "config.optim.steps=-5"),
        ("optim.peak_lr=-1", "config.optim.peak_lr=-1"),
        ("optim.min_lr=9.0", "config.optim.min_lr=9.0"),
        ("optim.trainable=nothing/.*", "matches no parameter"),
        ("optim.trainable=(", "config.optim.trainable is no regular expression"),
        ("model.vit.width=-128", "config.model.vit.width=-128"),
        ("model.decoder.heads=3", "config.model.decoder.heads=3"),
        ("model.dtype=float17", "config.model.dtype must be one of 'float32', 'bfloat16'"),
        ("model.decoder.vocab_size=100", "config.model.decoder.vocab_size=100"),
        ("init.take=(", "config.init.take is no regular expression"),
        ("init.checkpoint=/nowhere", "config.init.checkpoint=/nowhere"),
        ("init.vit=/nowhere", "config.init.vit"),
        ("eval_every=0", "config.eval_every=0"),
        ("checkpoint.every=0", "config.checkpoint.every"),
        ("heldout.batches=0", "config.heldout.batches=0"),
        ("data.global_rows=7", "config.data.global_rows=7"),
        ("data.num_workers=7", "nearest that do"),
        ("data.tokenizer=/nowhere", "tokenizer /nowhere"),
        ("data.tokenizer=@/garbage.model", "not a SentencePiece model"),
        ("data.sources.scenes_en.path=gs://bucket/x", "mount the bucket"),
        ("data.sources.scenes_en.path=/nowhere", "source /nowhere"),
        ("heldout.sources.scenes_en.path=/nowhere", "source /nowhere"),
        ("data.sources.scenes_en.language=fr", "config.data.sources.scenes_en.language"),
        ("data.sources.mine.path=x", "config.data.sources.mine.language is missing"),
    ],
)
def test_a_field_that_does_not_fit_is_named_before_the_compile(data, tmp_path, field, says):
    """Some were told after the compile; others under a key that the user had not given."""
    page = f"configs/stage1.py:demo,data={data}"
    with pytest.raises((ValueError, flags.Error, FileNotFoundError)) as error:
        stage.check(pages.load(page, f"--config.{field.replace('@', str(data))}"), tmp_path / "run")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


BUILD = [
    ("run --config=configs/build/web.py --input=@ --out=@/file/x", "--out=@/file/x: Not a dir"),
    ("run --config=configs/build/web.py --input=@ --out=@/file", "--out=@/file is a file"),
    ("run --config=configs/nope.py --input=@ --out=@/x", "configs/nope.py is not a Python file"),
    ("run --config=configs/build/web.py --input=@ --out=@/x --procs=2", "did you mean --processes"),
    ("scenes --kinds=-3 --out=@/x", "kinds=-3: must be at least 0"),
    ("scenes --kindz=3 --out=@/x", "--kindz=3 is not known; did you mean --kinds?"),
    ("scenes --kinds=x --out=@/x", "--kinds: invalid int value: 'x'"),
    ("scenes --out=@/file/x", "--out=@/file/x"),
    ("scenes --out=gs://bucket/x", "mount the bucket"),
    ("scenez --out=@/x", "invalid choice: 'scenez'"),
    ("scenes", "required: --out"),
    ("extract --files=/nowhere --out=@/x", "files=/nowhere"),
    ("render --text=/nowhere --language=zh --out=@/x", "text=/nowhere"),
    ("chat --input=/nowhere --images=/nowhere --out=@/x", "--images=/nowhere"),
    ("convert --format=vqav2 --annotations /nowhere --images=/nowhere --out=@/x", "--images=/now"),
]
CONVERT = [
    ("import --qwen_vl=/nowhere --out=@/x", "/nowhere"),
    ("import --qwen_vll=/nowhere --out=@/x", "did you mean --qwen_vl?"),
    ("export --checkpoint=/nowhere --out=@/x", "no checkpoint under /nowhere"),
    ("export --checkpoint=/nowhere --out=@/file/x", "--out=@/file/x"),
    ("exprt", "invalid choice: 'exprt'"),
]
CLIP = [
    ("--weights=/nowhere --config=configs/build/web.py --input=@ --out=@/x", "weights /nowhere"),
    ("--weights=/nowhere --config=configs/build/web.py --input=@ --out=@/file/x", "--out=@/file/x"),
]
CASES = [
    (command, *case)
    for command, cases in ((build, BUILD), (convert, CONVERT), (clip_score, CLIP))
    for case in cases
]


@pytest.mark.parametrize(("command", "words", "says"), CASES)
def test_a_command_says_one_line(command, words, says, tmp_path, monkeypatch, capsys):
    """`--out=/proc/x` was told after 219 seconds of drawing, in 81 lines."""
    (tmp_path / "file").write_text("")
    words = words.replace("@", str(tmp_path)).split()
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["command", *words])
    try:
        code = command.main() if command is build else command.main(words)
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr().err.splitlines()
    assert code == 2, said
    assert len(said) == 1 and says.replace("@", str(tmp_path)) in said[0]
    assert sorted(os.listdir(tmp_path)) == ["file"]  # nothing was begun


PROCESSES = [
    (["demo", "--workdir=@/file"], "demo: --workdir=@/file is a file"),
    (["recipe", "--workdir=@/file/x"], "recipe: --workdir=@/file/x: Not a directory"),
    (["ablation", "--workdir=@/file"], "ablation: --workdir=@/file is a file"),
    (["chat", "--checkpoint=/nowhere", "--top_p=3"], "chat: flag --top_p=3"),
    (["evaluate", "--checkpoint=/nowhere"], "evaluate: --data is missing"),
    (["evaluate", "--checkpoint=/nowhere", "--data=/nodata"], "evaluate: source /nodata"),
    (["compile", "--config=configs/stage1.py", "--topology=v9:4x4"], "compile: --topology=v9:4x4"),
]


@pytest.mark.parametrize(("words", "says"), PROCESSES)
def test_a_process_says_one_line(words, says, tmp_path):
    """absl prints its usage, or a traceback, above the line that helps."""
    (tmp_path / "file").write_text("")
    name, *rest = [word.replace("@", str(tmp_path)) for word in words]
    done = subprocess.run(
        [sys.executable, f"launch/{name}.py", *rest],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = done.stderr.splitlines()
    assert done.returncode == 2, done.stderr
    assert len(said) == 1 and said[0].startswith(says.replace("@", str(tmp_path)))


def test_debug_shows_the_traceback_and_a_bug_keeps_its_own(capsys):
    """Without them nobody can mend what is wrong inside."""

    def bug():
        return int("x")

    def full():
        raise Ending("no room")

    with pytest.raises(ValueError, match="invalid literal"):
        command_line.run("name", bug)
    assert command_line.run("name", full) == 1
    assert capsys.readouterr().err == "name: no room\n"
    assert command_line.run("name", full, debug=True) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_output_folder_is_tried_and_left_as_it_was(tmp_path):
    """A folder made by the check would stop a command that wants a new one."""
    command_line.writable(tmp_path / "a" / "b", "--out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").write_text("x")
    command_line.writable(tmp_path / "full", "--out")
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == [
        "full",
        "full/kept",
    ]
