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
from launch import options
from launch.exemplars import NO_SHOTS, Shots
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
    own: int  # how many of the prompt's pictures, the last ones, are the record's
    text: str
    one_line: bool  # after solved records, a line each, an answer ends with its line


def score_records(
    checkpoint: Checkpoint,
    records: Sequence[Record],
    *,
    rows: int,
    chunk: int,
    beams: int = 1,
    blind: bool = True,
    shots: Shots = NO_SHOTS,
    new_tokens: int = 0,
) -> list[Scored]:
    """Ask, answer and score; records that cannot be asked are counted and named in the log.

    Args:
      rows: questions to a batch.
      chunk: positions of a row whose logits exist at once, where options are weighed.
      beams: 1 is greedy decoding, as in the paper.
      blind: also answer with another record's pictures.
      shots: solved records that stand before each question.
      new_tokens: the longest answer; 0: as long as the task allows.

    Raises:
      ValueError: too few records to choose the solved ones from.
    """
    groups = []
    key = lambda record: (record.task, record.language)  # noqa: E731
    for (task, language), group in itertools.groupby(sorted(records, key=key), key):
        if task not in TASKS:
            continue
        asked, skipped = _ask(checkpoint, list(group), shots)
        if asked:
            decoding = _decoding(checkpoint, task, beams, new_tokens)
            scored = _score(checkpoint, asked, decoding, rows=rows, blind=blind)
            common = {"task": task, "language": language, "records": len(asked)}
            common |= {"skipped": dict(skipped), "shots": shots.count}
            about = {"prompt": asked[0].text, "decoding": _described(decoding, checkpoint)}
            scores = [common | about | score for score in scored.scores]
            if all(options.is_choice(one.record) for one in asked):
                weighed = _weigh(checkpoint, asked, rows=rows, chunk=chunk, blind=blind)
                scores.append(common | {"shots": 0} | weighed)
            groups.append(scored._replace(scores=scores))
    return groups


def _ask(
    checkpoint: Checkpoint, records: list[Record], shots: Shots = NO_SHOTS
) -> tuple[list[_Asked], Counter]:
    asked, skipped = [], Counter()
    model = checkpoint.model
    for record in records:
        first, files = shots.before(record)
        try:
            spans = [*first, *question(record)]
            tokens, _ = encode_spans(
                spans, checkpoint.tokenizer, num_queries=model.adapter.num_queries
            )
            images = [decode(image, model.vit.image_size) for image in (*files, *record.images)]
        except ValueError as error:  # of which an ImageError is one
            reason = f"image_{error.reason}" if isinstance(error, ImageError) else "no_prompt"
            skipped[reason] += 1
            logging.warning("not asked: record %s: %s", record.key, error)
            continue
        text = "".join(span.text for span in spans)
        prompt = Prompt(tokens, images)
        asked.append(_Asked(record, prompt, len(record.images), text, shots.count > 0))
    return asked, skipped


def _decoding(checkpoint: Checkpoint, task: str, beams: int, new_tokens: int = 0) -> Decoding:
    names = checkpoint.tokenizer.specials
    stop_ids = (names.eos,) if task != "chat" else (names.im_end, names.eos, names.im_start)
    longest = new_tokens or TASKS[task].new_tokens
    return Decoding(max_new_tokens=longest, stop_ids=stop_ids, beams=beams)


def _described(decoding: Decoding, checkpoint: Checkpoint) -> dict[str, Any]:
    stops = checkpoint.tokenizer.decode(decoding.stop_ids)
    return dataclasses.asdict(decoding) | {"stop_ids": stops}


def _score(
    checkpoint: Checkpoint, asked: list[_Asked], decoding: Decoding, *, rows: int, blind: bool
) -> Scored:
    records = [one.record for one in asked]
    answers = _answer(checkpoint, asked, decoding, rows)
    others = _shuffled(asked) if blind else None
    unseen = _answer(checkpoint, others, decoding, rows) if others else None
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


def _weigh(
    checkpoint: Checkpoint, asked: list[_Asked], *, rows: int, chunk: int, blind: bool
) -> dict[str, Any]:
    """Multiple choice: the score of what is most likely, without a token generated."""
    records = [one.record for one in asked]

    def score(asked: list[_Asked] | None) -> float | None:
        if not asked:
            return None
        shown = [one.prompt.images[len(one.prompt.images) - one.own :] for one in asked]
        picks = options.chosen(checkpoint, records, shown, rows=rows, chunk=chunk)
        return options.accuracy(records, picks)

    return {
        "prompt": options.prompt(records[0]),
        "decoding": "none: options are weighed",
        "metric": "option_accuracy",
        "value": score(asked),
        "blind": score(_shuffled(asked)) if blind else None,
        "normaliser": options.NORMALISER,
    }


def _answer(
    checkpoint: Checkpoint, asked: list[_Asked], decoding: Decoding, rows: int
) -> list[Answer]:
    prompts = [one.prompt for one in asked]
    with jax.set_mesh(checkpoint.mesh):
        new = continue_prompts(
            checkpoint.model, checkpoint.params, prompts, decoding, rows=min(rows, len(prompts))
        )
        return [
            _read(one, checkpoint.tokenizer.decode(tokens), len(tokens) < decoding.max_new_tokens)
            for one, tokens in zip(asked, new, strict=True)
        ]


def _read(asked: _Asked, text: str, ended: bool) -> Answer:
    line, newline, _ = text.partition("\n") if asked.one_line else (text, "", "")
    return answer(asked.record, line, ended=ended or bool(newline))


def _shuffled(asked: list[_Asked]) -> list[_Asked] | None:
    """The records' own pictures moved on by half of all, as neighbours often share one; None
    without two different pictures.
    """
    own = [one.prompt.images[len(one.prompt.images) - one.own :] for one in asked]
    pictures = [image for images in own for image in images]
    if len({image.tobytes() for image in pictures}) < 2:
        return None
    half = len(pictures) // 2
    moved = iter(pictures[half:] + pictures[:half])
    return [
        one._replace(
            prompt=one.prompt._replace(
                images=[
                    *one.prompt.images[: len(one.prompt.images) - one.own],
                    *itertools.islice(moved, one.own),
                ]
            )
        )
        for one in asked
    ]
