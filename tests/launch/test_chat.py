"""A dialogue as a user has it, beside the ids of the released code."""

import dataclasses
import io
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from launch import chat, dialogue
from launch.dialogue import Dialogue, read_answer
from launch.loading import Checkpoint, load_checkpoint
from qwenvl_jax.inference.prompts import Decoding, Prompt, continue_prompts
from qwenvl_jax.parallel.mesh import MeshConfig, make_mesh
from qwenvl_jax.text.tokenizer import load_tokenizer
from tests.batches import toy_model
from tests.workdirs import write_workdir

DECODING = Decoding(max_new_tokens=6, stop_ids=())
CASES = json.loads((Path(__file__).parents[1] / "reference/chat_cases.json").read_text("utf-8"))


def png(colour, size=(40, 30)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return write_workdir(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def checkpoint(workdir):
    """On one device: the mesh is `test_prompts`' matter."""
    with pytest.MonkeyPatch.context() as patch:
        first = jax.devices()[:1]
        patch.setattr(jax, "devices", lambda *_: first)
        return load_checkpoint(workdir)


def expanded(runs) -> list[int]:
    return [token for token, count in runs for _ in range(count)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["conversations"][0]["value"][-9:])
def test_ids_are_those_of_the_released_code(case, tmp_path, monkeypatch):
    """Roles, newlines, picture numbers and markup of every turn; answers are the record's own, so
    what a turn reads is the record up to its answer.
    """
    tokenizer = load_tokenizer()
    toy = toy_model()
    decoder = dataclasses.replace(toy.decoder, image_pad_id=151_859, vocab_size=151_936)
    adapter = dataclasses.replace(toy.adapter, num_queries=256)
    model = dataclasses.replace(toy, decoder=decoder, adapter=adapter)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    whole, asked, begin = expanded(case["ids_runs"]), [], 0
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    for name in ("a/b.jpg", "1.png", "2.png"):
        Path(name).write_bytes(png("red"))

    def answer(config, params, prompts, decoding, *, rows):
        """Says what the record says after as many ids as were asked with."""
        asked.append(prompts[0].tokens.tolist())
        length = len(asked[-1])
        return [whole[length : whole.index(tokenizer.specials.im_end, length)]]

    monkeypatch.setattr(dialogue, "continue_prompts", answer)
    talk = Dialogue(Checkpoint(model, {}, tokenizer, {}, 0, "", mesh), DECODING)
    turns = case["conversations"]
    for question, said in zip(turns[::2], turns[1::2], strict=True):
        assert talk.ask(question["value"]).text == said["value"]
        assert asked[-1] == whole[: len(asked[-1])] and len(asked[-1]) > begin
        begin = len(asked[-1])


def test_pictures_number_themselves(checkpoint, tmp_path):
    """Over the whole dialogue, as training numbers them; the model continues all of it."""
    first, second = tmp_path / "一.png", tmp_path / "b c.png"
    first.write_bytes(png("red"))
    second.write_bytes(png("blue"))
    talk = Dialogue(checkpoint, DECODING)
    talk.ask(f"<img>{first}</img>狗?")
    answer = talk.ask(f"and <img>{second}</img>\na cat?")
    assert talk.turns[1] == ("user", "Picture 1: <img>0</img>\n狗?")
    assert talk.turns[3] == ("user", "and Picture 2: <img>1</img>\na cat?")
    c, names = checkpoint, checkpoint.tokenizer.specials
    text = "".join(f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in talk.turns[:4])
    pads = "<img>" + "<imgpad>" * 16 + "</img>"
    text = text.replace("<img>0</img>", pads).replace("<img>1</img>", pads)
    prompt = c.tokenizer.encode(text + "<|im_start|>assistant\n", special=True)
    colours = [np.full((64, 64, 3), rgb, np.uint8) for rgb in ((255, 0, 0), (0, 0, 255))]
    stop = Decoding(max_new_tokens=6, stop_ids=(names.im_end, names.eos, names.im_start))
    asked = Prompt(np.array(prompt, np.int32), colours)
    with jax.set_mesh(c.mesh):
        (want,) = continue_prompts(c.model, c.params, [asked], stop, rows=1)
    assert answer.text == c.tokenizer.decode(want).strip()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (" ", "empty"),
        ("<img>nowhere.png</img> hi", "nowhere.png: No such file"),
        ("<img>.</img> hi", "Is a directory"),
        ("<img>~nobody/x.png</img> hi", "~nobody/x.png"),
        ("<img>text.png</img> hi", r"text.png: image refused \(unreadable\)"),
        ("<img>good.png</img> <img>cut.png</img>", r"cut.png: image refused \(truncated\)"),
    ],
)
def test_a_refused_message_changes_nothing(checkpoint, tmp_path, monkeypatch, message, reason):
    """A wrong path must not end the session, nor leave half a message in it."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save("good.png")
    Path("cut.png").write_bytes(Path("good.png").read_bytes()[:900])
    Path("text.png").write_text("no picture")
    talk = Dialogue(checkpoint, DECODING)
    before = list(talk.turns)
    with pytest.raises(ValueError, match=reason):
        talk.ask(message)
    assert talk.turns == before and not talk.pictures


def test_an_answer_cannot_show_pictures(checkpoint, monkeypatch):
    """A model that says `<img>0</img>` must not end the dialogue: every later turn would be refused
    for a picture that nobody showed.
    """
    said = checkpoint.tokenizer.encode("a <img>0</img> dog", special=True)
    monkeypatch.setattr(dialogue, "continue_prompts", lambda *_, **__: [said])
    talk = Dialogue(checkpoint, DECODING)
    assert talk.ask("a?").text == "a <img>0</img> dog"
    assert talk.ask("b?") and talk.turns[2] == ("assistant", "a 0 dog")


def test_a_session(checkpoint, tmp_path, monkeypatch):
    """Commands, mistakes and a drawn box; what was waiting survives a refused message."""
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(png("white", (200, 100)))
    said, asked = [], []

    class Scripted(Dialogue):
        """Looks at pictures as ever; its answer is given."""

        def ask(self, message):
            self.pictures += self._read(message)[1]
            asked.append(message)
            return read_answer("<ref>狗</ref><box>(0,0),(500,500)</box>")

    lines = ["/image", "/image no.png", "/image a.png", "<img>no.png</img>", "哪里有狗？", "/what"]
    chat.chat(
        lambda: Scripted(checkpoint, DECODING),
        [*lines, "", "/new", "/quit", "never read"],
        say=said.append,
        out=tmp_path / "out",
    )
    assert asked == ["<img>a.png</img>\n哪里有狗？"]
    assert "needs a path" in said[0] and "no.png: No such file" in said[1]
    assert said[3].startswith("Not sent: picture no.png")
    drawn = np.asarray(Image.open(tmp_path / "out" / "answer_1.png"))
    assert (drawn[48:52, 20:80] != 255).any() and (drawn[60:, 110:] == 255).all()
    assert "/what is no command" in said[-2] and said[-1] == "A new dialogue."


def test_broken_markup_is_said_not_drawn(checkpoint):
    answer = read_answer(" see <box>(1,2)")
    assert answer.text == "see <box>(1,2)" and not answer.marked and "not closed" in answer.fault
    assert Dialogue(checkpoint, DECODING).draw(read_answer("<box>(1,2),(3,4)</box>")) is None


def test_what_is_loaded_is_named(workdir, checkpoint, tmp_path):
    """Scores are saved under the checkpoint's hash: another step must have another."""
    assert checkpoint.step == 3 and len(checkpoint.sha256) == 64
    with pytest.raises(ValueError, match="no work directory"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text((workdir / "config.json").read_text())
    with pytest.raises(ValueError, match="no checkpoint"):
        load_checkpoint(tmp_path)
