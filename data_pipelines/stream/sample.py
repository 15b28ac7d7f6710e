"""From a serialised record to ids and pixels, or to the reason why not.

Nothing raises from here: an exception inside a Grain pipeline would lose the batch and end the
iterator for good.
"""

from typing import NamedTuple, get_args

import numpy as np
from jaxtyping import Int32, UInt8

from data_pipelines.schema import Record, unpack
from data_pipelines.stream.config import StreamConfig
from data_pipelines.stream.cut import CUT, whole_images
from qwenvl_jax.batch import IGNORE
from qwenvl_jax.image import decode as images
from qwenvl_jax.text import chatml, prompts
from qwenvl_jax.text.tokenizer import Tokenizer

# Every reason to skip a record, in the order of the counters in a shard's state.
REASONS = (
    "unreadable_record",
    "bad_record",
    "no_prompt",
    "too_long",
    "too_many_images",
    *(f"image_{reason}" for reason in get_args(images.Reason)),
)


class Sample(NamedTuple):
    tokens: Int32[np.ndarray, " n"]
    targets: Int32[np.ndarray, " n"]  # the next token, IGNORE where it is not supervised
    images: tuple[UInt8[np.ndarray, "R R 3"], ...]


class Text(NamedTuple):
    """A sample whose pictures are not decoded yet."""

    tokens: Int32[np.ndarray, " n"]
    targets: Int32[np.ndarray, " n"]
    files: tuple[bytes, ...]


def make_sample(data: bytes, config: StreamConfig, tokenizer: Tokenizer) -> Sample | str:
    """A sample, or one of REASONS."""
    text = make_text(data, config, tokenizer)
    return text if isinstance(text, str) else add_images(text, config)


def make_text(data: bytes, config: StreamConfig, tokenizer: Tokenizer) -> Text | str:
    """All but the pictures of a sample, or one of REASONS."""
    try:
        record = unpack(data)
    except ValueError:
        return "bad_record"
    if len(record.images) > config.group_slots[0]:
        return "too_many_images"
    try:
        tokens, supervised = prompts.encode_spans(
            _spans(record), tokenizer, num_queries=config.num_queries
        )
    except ValueError:
        return "no_prompt"  # fields that the record's task cannot be written with
    files = record.images
    if len(tokens) > config.seq_len:
        pad, queries = tokenizer.specials.imgpad, config.num_queries
        may = record.meta.get(CUT)
        shown = whole_images(tokens, config.seq_len, imgpad=pad, num_queries=queries)
        if not may or shown is None:
            return "too_long"
        tokens, supervised = tokens[: config.seq_len], supervised[: config.seq_len]
        files = files[:shown]
    targets = np.full(len(tokens), IGNORE, np.int32)
    np.copyto(targets[:-1], tokens[1:], where=supervised[1:])
    return Text(tokens, targets, files)


def add_images(text: Text, config: StreamConfig) -> Sample | str:
    """The whole sample, or one of REASONS."""
    try:
        pixels = tuple(
            images.decode(file, config.image_size, way=config.decode) for file in text.files
        )
    except images.ImageError as error:
        return f"image_{error.reason}"
    return Sample(text.tokens, text.targets, pixels)


def _spans(record: Record) -> list[prompts.Span]:
    if record.task == "chat":
        return chatml.chat_spans(record.turns, num_images=len(record.images))
    return prompts.task_spans(
        record.task,
        language=record.language,
        num_images=len(record.images),
        text=record.text,
        question=record.question,
        regions=record.regions,
        more=record.more,
    )
