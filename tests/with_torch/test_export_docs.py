"""The commands of docs/weights.md, as they stand, on models of several kinds."""

import io
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launch import convert
from qwenvl_jax.image.decode import decode
from qwenvl_jax.inference.prompts import Decoding, Prompt, continue_prompts
from qwenvl_jax.text.chatml import picture_lines, prompt_spans
from qwenvl_jax.text.prompts import IMAGE, Span, encode_spans
from tests.data_pipelines.crawl_data import picture
from tests.with_torch import exports

DOCS = Path(__file__).parents[2] / "docs" / "weights.md"
TITLE = "## Loading an export in PyTorch\n"


def blocks() -> list[str]:
    """The indented blocks of the section, in order."""
    section = DOCS.read_text("utf-8").split(TITLE)[1].split("\n## ")[0]
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", section, re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE).strip() for block in found]


@pytest.mark.parametrize("kind", ["reference", "demo", "64 queries"])
def test_commands_of_the_docs(tmp_path, monkeypatch, capsys, kind):
    """A user who copies them gets the answers that our own model gives."""
    monkeypatch.chdir(tmp_path)
    vocabulary = exports.small_vocabulary(tmp_path)
    config, params = exports.model(kind, vocabulary)
    exports.write_workdir(tmp_path / "runs" / "stage1", config, params, vocabulary)
    files = {"dog.jpg": picture(0, (90, 60), "JPEG"), "cat.png": picture(1, (50, 70), "PNG")}
    for name, data in files.items():
        Path(name).write_bytes(data)
    command, *codes = blocks()
    program, script, *arguments = shlex.split(command)
    assert (program, script) == ("python", "launch/convert.py") and len(codes) == 4
    assert convert.main(arguments) == 0
    found: dict = {}
    exec(compile("\n".join(codes), str(DOCS), "exec"), found)

    tokenizer = exports.load_tokenizer(vocabulary)
    names, (dog, cat) = tokenizer.specials, (
        decode(data, config.vit.image_size) for data in files.values()
    )  # fmt: skip

    def ours(spans, images, **options) -> str:
        ids, _ = encode_spans(spans, tokenizer, num_queries=config.adapter.num_queries)
        decoding = Decoding(20, (names.eos, names.im_end, names.im_start), **options)
        prompt = Prompt(ids, images)
        (new,) = continue_prompts(config, params, [prompt], decoding, rows=1)
        return found["processor"].decode(new, skip_special_tokens=True)

    asked = [IMAGE, Span("Generate the caption in English:", False)]
    assert found["caption"] == ours(asked, [dog])
    if kind == "reference":  # one more program to compile
        assert found["captions"][0] == ours(asked, [dog], beams=3)
    turns = [("user", f"{picture_lines(2)}Where is <ref>a dog</ref>?")]
    said = ours(prompt_spans(turns, num_images=2), [dog, cat])
    assert found["messages"][1]["content"] == said
    assert said.strip() in capsys.readouterr().out  # the streamer's
    assert found["plain"] == "a dog" and found["marked"][0].boxes == ((0.1, 0.2, 0.5, 0.999),)
    whole = Image.open(io.BytesIO(files["dog.jpg"]))
    assert found["drawn"].size == whole.size
    assert np.any(np.asarray(found["drawn"]) != np.asarray(whole.convert("RGB")))
