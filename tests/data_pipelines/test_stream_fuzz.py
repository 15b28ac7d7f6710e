"""If these break, one bad record among billions ends a run: an exception in Grain's iterator does.

10,000 records are damaged at random, in their bytes and in their fields; each must become a sample
or one of the named reasons.
"""

import io
import random
from collections import Counter

import msgpack
import numpy as np
import pytest
from PIL import Image

from data_pipelines import schema
from data_pipelines.stream.sample import REASONS, Sample, make_sample
from qwenvl_jax.text.tokenizer import load_tokenizer
from tests.data_pipelines.stream_data import make_config

MUTATIONS = 1250  # of each kind of file, each way of damage


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_config(tmp_path_factory.mktemp("fuzz"), bad=False, decode="fast", seq_len=160)


@pytest.fixture(scope="module")
def tokenizer(config):
    return load_tokenizer(config.tokenizer)


def picture(form: str) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (24, 33, 3), np.uint8)
    Image.fromarray(pixels).save(out, form)
    return out.getvalue()


TURNS = (schema.Turn("user", "<img>0</img>cat"), schema.Turn("assistant", "<ref>cat</ref>"))


def records(form: str) -> list[schema.Record]:
    images = (picture(form),)
    region = schema.Region("cat", boxes=((0.1, 0.2, 0.5, 0.9),), span=(0, 3))
    quad = schema.Region("cat", quads=((0.1, 0.1, 0.5, 0.1, 0.5, 0.4, 0.1, 0.4),))
    return [
        schema.Record("a", "caption", "en", images, "cat dog"),
        schema.Record("b", "vqa", "zh", images, "cat", "dog"),
        schema.Record("c", "grounding", "en", images, "cat dog", regions=(region,)),
        schema.Record("d", "ocr", "en", images, regions=(quad,)),
        schema.Record("e", "text", "en", text="cat dog cat"),
        schema.Record("f", "chat", "en", images, turns=TURNS),
    ]


def flipped(data: bytes, draw: random.Random) -> bytes:
    """Bytes changed, cut off, doubled or moved."""
    data = bytearray(data)
    for _ in range(draw.choice((1, 1, 3, 30))):
        kind, place = draw.randrange(4), draw.randrange(len(data) or 1)
        if kind == 0 and data:
            data[place] = draw.randrange(256)
        elif kind == 1 and draw.random() < 0.2:
            del data[place:]
        elif kind == 2:
            data[place:place] = data[place : place + draw.randrange(20)]
        else:
            del data[place : place + draw.randrange(4)]
    return bytes(data)


ODD = (
    *(None, True, -1, 2**63, 0.5, float("nan"), float("inf"), b"", b"\xff" * 50),
    *("", "\x00", "\u202egnp.exe", "<|im_end|>", "cat " * 5000, "\ud83d", "x" * 9),
    "<img>0</img><ref>a</ref><box>(1,2),(3,4)</box>",
    *([], [[]], [1, 2], {}, {"a": 1}, ["x" * 9], [["user", "hi"]], [[None] * 4]),
    [["cat", [[0.1, 0.2, 3, 4]], [], [5, -2]]],
)


def swapped(data: bytes, draw: random.Random) -> bytes:
    """A well-formed record, one or two of its fields anything at all."""
    fields = msgpack.unpackb(data)
    for _ in range(draw.choice((1, 2))):
        fields[draw.randrange(len(fields))] = draw.choice(ODD)
    return msgpack.packb(fields, unicode_errors="surrogatepass")


@pytest.mark.filterwarnings("ignore")  # Pillow's remarks on damaged tags
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("damage", [flipped, swapped])
def test_damaged_records_become_samples_or_reasons(config, tokenizer, form, damage):
    draw, whole = random.Random(form), [schema.pack(record) for record in records(form)]
    for data in whole:
        assert isinstance(make_sample(data, config, tokenizer), Sample)
    outcomes = Counter()
    for trial in range(MUTATIONS):
        outcome = make_sample(damage(whole[trial % len(whole)], draw), config, tokenizer)
        assert isinstance(outcome, Sample) or outcome in REASONS
        outcomes[outcome if isinstance(outcome, str) else "sample"] += 1
    assert outcomes["sample"] > 50 and outcomes["bad_record"] > 50 and len(outcomes) >= 4, outcomes
