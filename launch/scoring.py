"""A checkpoint's answers to the records of a source, scored task by task and language by language.

Every score stands beside the same one with the pictures shuffled among the records: a model that
does not look at them scores the same on both.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from absl import logging

from data_pipelines.schema import Record
from launch.loading import Checkpoint
from launch.tasks import TASKS, Answer, answer, question
from qwenvl_jax.image.decode import ImageError, decode
from qwenvl_jax.inference.prompts import Decoding, Prompt, continue_prompts
from qwenvl_jax.text.prompts import encode_spans


class Scored(NamedTuple):
    """One task in one language."""

    records: list[Record]
    answers: list[Answer]
    scores: list[dict[str, Any]]  # plain data, a metric each


class _Asked(NamedTuple):
    record: Record
    prompt: Prompt
    text: str


def score_records(
    checkpoint: Checkpoint,
    records: Sequence[Record],
    *,
    rows: int,
    beams: int = 1,
    blind: bool = True,
) -> list[Scored]:
    """Ask, answer and score; records that cannot be asked are counted and named in the log.

    Args:
      rows: questions to a batch.
      beams: 1 is greedy decoding, as in the paper.
      blind: also answer with another record's pictures.
    """
    groups = []
    key = lambda record: (record.task, record.language)  # noqa: E731
    for (task, language), group in itertools.groupby(sorted(records, key=key), key):
        if task not in TASKS:
            continue
        asked, skipped = _ask(checkpoint, list(group))
        if asked:
            decoding = _decoding(checkpoint, task, beams)
            scored = _score(checkpoint, asked, decoding, rows=rows, blind=blind)
            common = {"task": task, "language": language, "records": len(asked)}
            common |= {"skipped": dict(skipped), "prompt": asked[0].text}
            common["decoding"] = _described(decoding, checkpoint)
            groups.append(scored._replace(scores=[common | score for score in scored.scores]))
    return groups


def _ask(checkpoint: Checkpoint, records: list[Record]) -> tuple[list[_Asked], Counter]:
    asked, skipped = [], Counter()
    model = checkpoint.model
    for record in records:
        try:
            spans = question(record)
            tokens, _ = encode_spans(
                spans, checkpoint.tokenizer, num_queries=model.adapter.num_queries
            )
            images = [decode(image, model.vit.image_size) for image in record.images]
        except ValueError as error:  # of which an ImageError is one
            reason = f"image_{error.reason}" if isinstance(error, ImageError) else "no_prompt"
            skipped[reason] += 1
            logging.warning("not asked: record %s: %s", record.key, error)
            continue
        asked.append(_Asked(record, Prompt(tokens, images), "".join(s.text for s in spans)))
    return asked, skipped


def _decoding(checkpoint: Checkpoint, task: str, beams: int) -> Decoding:
    names = checkpoint.tokenizer.specials
    stop_ids = (names.eos,) if task != "chat" else (names.im_end, names.eos, names.im_start)
    return Decoding(max_new_tokens=TASKS[task].new_tokens, stop_ids=stop_ids, beams=beams)


def _described(decoding: Decoding, checkpoint: Checkpoint) -> dict[str, Any]:
    stops = checkpoint.tokenizer.decode(decoding.stop_ids)
    return dataclasses.asdict(decoding) | {"stop_ids": stops}


def _score(
    checkpoint: Checkpoint, asked: list[_Asked], decoding: Decoding, *, rows: int, blind: bool
) -> Scored:
    records = [one.record for one in asked]
    prompts = [one.prompt for one in asked]
    answers = _answer(checkpoint, records, prompts, decoding, rows)
    others = _shuffled(prompts) if blind else None
    unseen = _answer(checkpoint, records, others, decoding, rows) if others else None
    scores = [
        {
            "metric": metric.name,
            "value": metric.score(records, answers),
            "blind": None if unseen is None else metric.score(records, unseen),
            "normaliser": metric.normaliser,
        }
        for metric in TASKS[records[0].task].metrics
        if all(metric.fits(record) for record in records)
    ]
    return Scored(records, answers, scores)


def _answer(
    checkpoint: Checkpoint,
    records: list[Record],
    prompts: list[Prompt],
    decoding: Decoding,
    rows: int,
) -> list[Answer]:
    with jax.set_mesh(checkpoint.mesh):
        new = continue_prompts(
            checkpoint.model, checkpoint.params, prompts, decoding, rows=min(rows, len(prompts))
        )
        return [
            answer(
                record,
                checkpoint.tokenizer.decode(tokens),
                ended=len(tokens) < decoding.max_new_tokens,
            )
            for record, tokens in zip(records, new, strict=True)
        ]


def _shuffled(prompts: list[Prompt]) -> list[Prompt] | None:
    """The pictures moved on by half of all, as neighbours often share one; None without two
    different pictures.
    """
    pictures = [image for prompt in prompts for image in prompt.images]
    if len({image.tobytes() for image in pictures}) < 2:
        return None
    half = len(pictures) // 2
    moved = iter(pictures[half:] + pictures[:half])
    return [p._replace(images=list(itertools.islice(moved, len(p.images)))) for p in prompts]
