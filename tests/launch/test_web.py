"""The page in the browser, without a browser: what a visitor is shown after what he sends."""

import io
import os
import urllib.request
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from launch import web
from launch.dialogue import Dialogue, read_answer
from launch.loading import load_checkpoint
from launch.web import Page, Typed, settings, spoken
from qwenvl_jax.inference.prompts import Decoding
from tests.workdirs import write_workdir

DECODING = Decoding(max_new_tokens=6, stop_ids=())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """On one device: the mesh is `test_prompts`' matter."""
    with pytest.MonkeyPatch.context() as patch:
        first = jax.devices()[:1]
        patch.setattr(jax, "devices", lambda *_: first)
        return load_checkpoint(write_workdir(tmp_path_factory.mktemp("run")))


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "white.png"
    Image.new("RGB", (200, 100), "white").save(path)
    return path


def scripted(checkpoint, said: str, asked: list):
    """A dialogue that reads pictures as ever; its answer is given."""

    class Scripted(Dialogue):
        def _continue(self, turns, pictures, decoding):
            asked.append((turns[-1][1], len(pictures), decoding))
            return said

    return lambda: Scripted(checkpoint, DECODING)


def test_two_turns_with_a_picture(checkpoint, picture, tmp_path):
    """The question is shown at once; the answer comes in words, places and a drawn picture, and the
    second turn goes on with the first.
    """
    asked: list = []
    said = " <ref>狗</ref><box>(0,0),(500,500)</box> <b>here</b>"
    page = Page(scripted(checkpoint, said, asked), tmp_path / "out")
    drawn = Decoding(max_new_tokens=9, stop_ids=(), temperature=0.5)
    first, last = page.send(None, [], Typed("哪里有狗？", [str(picture)]), drawn)
    shown = [{"role": "user", "content": {"path": str(picture)}}]
    shown.append({"role": "user", "content": "哪里有狗？"})
    assert first.messages == shown and first.typed == Typed()
    words, where = last.messages[2:]
    assert words == {"role": "assistant", "content": "狗 <b>here</b>\n狗: (0,0) (500,500)"}
    pixels = np.asarray(Image.open(where["content"]["path"]))
    assert (pixels[48:52, 20:80] != 255).any() and (pixels[60:, 110:] == 255).all()
    assert asked == [("Picture 1: <img>0</img>\n哪里有狗？", 1, drawn)]
    *_, after = page.send(last.dialogue, last.messages, Typed(" and now?"), DECODING)
    assert len(after.messages) == 7 and after.dialogue is last.dialogue
    assert after.messages[6]["content"]["path"] != where["content"]["path"]  # both stay visible
    assert page.new().messages == [] and page.new().dialogue is not last.dialogue


@pytest.mark.parametrize(
    ("text", "files", "reason"),
    [
        (" ", [], "empty"),
        ("look", ["nowhere.png"], "nowhere.png: No such file"),
        ("", ["white"], "needs a question"),
        ("<img>/etc/passwd</img> read this", [], "with the button"),
    ],
)
def test_what_is_refused_goes_back_into_the_box(checkpoint, picture, tmp_path, text, files, reason):
    """A mistake must not cost what was typed, show the server's files or stay in the dialogue."""
    files = [str(picture) if name == "white" else name for name in files]
    page = Page(scripted(checkpoint, "a", []), tmp_path)
    *_, before = page.send(None, [], Typed("hello"), DECODING)
    *_, view = page.send(before.dialogue, before.messages, Typed(text, files), DECODING)
    assert view.typed == Typed(text, files) and reason in view.warning
    assert view.messages == before.messages and len(view.dialogue.turns) == 3


def test_what_is_said_of_an_answer():
    """Markup is for the picture; broken markup is not hidden."""
    assert spoken(read_answer("a dog")) == "a dog"
    quad = "<quad>(1,2),(3,4),(5,6),(7,8)</quad>"
    assert spoken(read_answer(quad)) == "(no words)\nhere: (1,2) (3,4) (5,6) (7,8)"
    assert "<box>(1,2)" in spoken(read_answer("<box>(1,2)")) and "not closed" in spoken(
        read_answer("<box>(1,2)")
    )


def test_controls_hand_over_what_decoding_takes():
    """A slider's 4.0 beams or 64.0 tokens would be refused by the compiler, late."""
    values = dict(longest=64.0, temperature=0, top_p=0.5, seed=7.0, beams=4.0)
    assert settings(DECODING, **values) == Decoding(64, (), 0.0, 0.5, 7, 4)
    with pytest.raises(ValueError, match="beams=4"):
        settings(DECODING, **values | {"temperature": 1.0})


def test_the_page_is_served_on_this_machine_only(checkpoint, picture, tmp_path, monkeypatch):
    """With gradio: a visitor's question by way of the server, and nothing else listens or calls."""
    gradio_client = pytest.importorskip("gradio_client", reason="pip install '.[web]'")
    del gradio_client
    from launch import web_page

    asked: list = []
    said = "<box>(0,0),(9,9)</box> <b>1 & 2"
    page = web.Page(scripted(checkpoint, said, asked), tmp_path / "out")
    blocks = web_page.serve(
        page, DECODING, about="step 3", out=tmp_path / "out", port=None, wait=False
    )
    try:
        assert blocks.local_url.startswith("http://127.0.0.1:") and blocks.share_url is None
        assert not blocks.analytics_enabled and os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
        with urllib.request.urlopen(blocks.local_url) as response:
            text = io.TextIOWrapper(response, "utf-8").read()
        assert "新对话" in text and "fonts.googleapis.com" not in text
        send = next(fn for fn in blocks.fns.values() if fn.name == "send")
        values = [component.value for component in send.inputs[3:]]
        typed = {"text": "where?", "files": [str(picture)]}
        *_, (dialogue, messages, shown, box) = send.fn(None, [], typed, *values)
        assert messages[2]["content"].startswith("<b>1 & 2\nhere: ")
        assert shown[2]["content"].startswith("&lt;b&gt;1 &amp; 2\nhere: ")
        assert len(messages) == len(shown) == 4 and box == {"text": "", "files": []}
        assert asked[0][2].max_new_tokens == 6 and len(dialogue.pictures) == 1
    finally:
        blocks.close()
