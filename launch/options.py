"""Multiple choice by likelihood (ScienceQA, SEED-Bench): no token is generated.

The options are listed under letters, and the letter of the lowest mean cross-entropy is the answer.
A record is multiple choice where `meta["choices"]` lists its options, one of which is its text;
a `meta["hint"]`, empty or not, puts a `Context:` line first, as ScienceQA has it.
"""

import itertools
import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.schema import Record
from data_pipelines.stream.sample import Sample
from launch.loading import Checkpoint
from launch.teacher_forced import sample_losses
from qwenvl_jax.batch import IGNORE
from qwenvl_jax.text.prompts import Span, encode_spans, pictures

LETTERS = string.ascii_uppercase
NORMALISER = "lowest mean cross-entropy of the options' letters; of equals the first"


def is_choice(record: Record) -> bool:
    """Whether the record has options, its answer among them."""
    choices = record.meta.get("choices")
    return (
        isinstance(choices, list | tuple)
        and 2 <= len(choices) <= len(LETTERS)
        and record.text in choices
    )


def prompt(record: Record) -> str:
    """What stands after the pictures."""
    options = [f"{x}. {choice}" for x, choice in zip(LETTERS, record.meta["choices"])]
    lines = [f"Question: {record.question}", f"Options: {chr(10).join(options)}", "Answer:"]
    if "hint" in record.meta:
        lines.insert(0, f"Context: {record.meta['hint'] or 'N/A'}")
    return "\n".join(lines)


def chosen(
    checkpoint: Checkpoint,
    records: Sequence[Record],
    images: Sequence[Sequence[np.ndarray]],
    *,
    rows: int,
    chunk: int,
) -> list[int]:
    """Of every record the number of the option that the model prefers.

    Args:
      images: of each record, as the model sees them.
      rows: options to a batch, one a row.
    """
    samples, sizes = [], []
    for record, shown in zip(records, images, strict=True):
        count = len(record.meta["choices"])
        samples += [_sample(checkpoint, record, shown, letter) for letter in LETTERS[:count]]
        sizes.append(count)
    losses = iter(sample_losses(checkpoint, samples, rows=rows, chunk=chunk))
    means = [[x.total / x.tokens for x in itertools.islice(losses, size)] for size in sizes]
    return [values.index(min(values)) for values in means]


def accuracy(records: Sequence[Record], picks: Sequence[int]) -> float:
    """Share of picks that are the true answer."""
    hits = [r.meta["choices"][pick] == r.text for r, pick in zip(records, picks, strict=True)]
    return sum(hits) / len(hits)


def _sample(checkpoint: Checkpoint, record: Record, images: Any, letter: str) -> Sample:
    """The question answered with a letter, which alone is supervised."""
    spans = [*pictures(len(images))] if images else []
    spans += [Span(prompt(record), supervised=False), Span(f" {letter}", supervised=True)]
    queries = checkpoint.model.adapter.num_queries
    tokens, supervised = encode_spans(spans, checkpoint.tokenizer, num_queries=queries)
    targets = np.full(len(tokens), IGNORE, np.int32)
    targets[:-1] = np.where(supervised[1:], tokens[1:], IGNORE)
    return Sample(tokens, targets, tuple(images))
