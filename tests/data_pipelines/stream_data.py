"""A small pair of sources with known contents, good and bad records mixed, for the stream's tests.

Sample n of a source says `item n` in its text and shows pictures of one colour each, so that a row
can be read back without any of the stream's own bookkeeping.
"""

import io
import re
from pathlib import Path

import numpy as np
from grain.sources import ArrayRecordDataSource
from PIL import Image

from data_pipelines import schema
from data_pipelines.build import shards
from data_pipelines.stream.config import SourceConfig, StreamConfig
from qwenvl_jax.text.sentence_piece import train_sentencepiece

IMAGE_SIZE, QUERIES, SLOTS, LENGTH = 8, 3, 6, 64
TOGETHER = 2  # rows that share the slots
# What is wrong with which record of `en`, and the reason it must be counted under.
BAD = {
    3: "bad_record",  # no msgpack
    11: "bad_record",  # an unknown task
    17: "image_unreadable",
    23: "too_long",
    31: "too_many_images",
    37: "no_prompt",  # grounding with a region that is nowhere in the text
    41: "unreadable_record",  # a flipped byte in the shard
}
RECORDS = {"en": 61, "zh": 29}


def colour(source: int, number: int, picture: int) -> tuple[int, int, int]:
    return number + 1, 50 * source + 20, 10 * picture + 5


def text_of(number: int) -> str:
    return f"item {number} " + "cat dog " * (number % 4)


def record(source: int, name: str, number: int) -> schema.Record:
    """Sample `number`: text alone, or captions of one picture or two."""
    files = []
    for picture in range(number % 3 if name == "en" else 1):
        file = io.BytesIO()
        Image.new("RGB", (6, 5), colour(source, number, picture)).save(file, "PNG")
        files.append(file.getvalue())
    task = "caption" if files else "text"
    return schema.Record(f"{name}{number}", task, name, tuple(files), text_of(number).strip())


def damaged(good: schema.Record, number: int) -> bytes:
    if number == 3:
        return b"\xc1 no record"
    changes = {
        11: dict(task="dance"),
        17: dict(task="caption", images=(b"no picture",)),
        23: dict(text="cat " * 200),
        31: dict(task="caption", images=good.images[:1] * (SLOTS + 1)),
        37: dict(task="grounding", regions=(schema.Region("cat", span=(900, 903)),)),
    }
    return schema.pack(good._replace(**changes.get(number, {})))


def write_source(folder: Path, source: int, name: str, *, bad: bool) -> Path:
    """Two shards of a source; with `bad`, the records of BAD are damaged in place."""
    good = [record(source, name, number) for number in range(RECORDS[name])]
    data = [
        damaged(one, number) if bad and number in BAD else schema.pack(one)
        for number, one in enumerate(good)
    ]
    half = len(data) // 2
    infos = [
        shards.write_shard(folder / shards.shard_name(name, index=i, count=2), part)
        for i, part in enumerate((data[:half], data[half:]))
    ]
    shards.write_manifest(folder, infos, config={})
    if bad:
        flip_byte_of_record(folder / infos[1].name, 41 - half)
    return folder


def flip_byte_of_record(shard: Path, index: int) -> None:
    """Flip one byte so that exactly this record of the shard no longer reads."""
    whole = shard.read_bytes()
    for place in range(64, len(whole), 16):
        shard.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            records = ArrayRecordDataSource([str(shard)])
            broken = [i for i in range(len(records)) if not reads(records, i)]
        except Exception:
            continue  # hit the shard's own index
        if broken == [index]:
            return
    raise AssertionError("found no byte that damages this record alone")


def reads(records: ArrayRecordDataSource, index: int) -> bool:
    try:
        return bool(records[index])
    except Exception:
        return False


def make_config(root: Path, *, bad: bool = True, **changes) -> StreamConfig:
    """Write both sources and a tokenizer under `root`, and point a config at them."""
    sources = tuple(
        SourceConfig(name, str(write_source(root / name, index, name, bad=bad and name == "en")),
                     name, weight)
        for index, (name, weight) in enumerate((("en", 0.7), ("zh", 0.3)))
    )  # fmt: skip
    corpus = [text_of(n) for n in range(99)] + ["Picture 1: Generate the caption in English:"]
    train_sentencepiece(corpus * 3, root / "tokenizer.model", 330)
    settings = dict(
        tokenizer=str(root / "tokenizer.model"),
        seq_len=LENGTH,
        image_slots=SLOTS,
        slot_rows=TOGETHER,
        image_size=IMAGE_SIZE,
        num_queries=QUERIES,
        global_rows=8,
        virtual_shards=4,
        look_ahead=6,
        seed=5,
    )
    return StreamConfig(sources=sources, **(settings | changes))


def divided(config: StreamConfig, hosts: int) -> list[list[int]]:
    """The virtual shards of each of some hosts, in order."""
    return np.arange(config.virtual_shards).reshape(hosts, -1).tolist()


def numbers(tokens: np.ndarray, segments: np.ndarray, sources: np.ndarray, tokenizer) -> list:
    """(source, sample number) of every sample of a row, from its text."""
    found = []
    for segment in range(1, segments.max() + 1):
        inside = segments == segment
        text = tokenizer.decode(tokens[inside].tolist())
        found.append((int(sources[inside][0]), int(re.search(r"item (\d+)", text)[1])))
    return found
