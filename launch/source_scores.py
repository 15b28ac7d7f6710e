"""All scores of a model on one source: what `launch/evaluate.py` and the training loop both run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from data_pipelines.build.ocr.fonts import cjk_font
from data_pipelines.schema import Record
from data_pipelines.stream.config import StreamConfig
from data_pipelines.stream.source import ShardedSource, read_records
from launch import perplexity
from launch.exemplars import read_shots
from launch.loading import Checkpoint
from launch.scoring import Scored, score_records
from launch.tasks import places, reference
from qwenvl_jax.eval.sheet import SIDE, Entry, draw_sheet
from qwenvl_jax.image.decode import decode
from qwenvl_jax.image.draw import draw_outlines

SHOWN = 18


class HowAsked(NamedTuple):
    """Which records of a source are asked, and how."""

    limit: int  # the first records of the source
    rows: int = 32  # questions to a batch
    beams: int = 1  # 1 is greedy decoding, as in the paper
    blind: bool = True  # also with another record's pictures
    task: str = ""  # only records of this task; "" takes all
    shots: int = 0  # solved records before each question
    exemplars: str = ""  # the source that these come from
    new_tokens: int = 0  # the longest answer; 0: as long as the task allows


class SourceScores(NamedTuple):
    lines: list[dict[str, Any]]  # plain data, a metric of a task and language each
    groups: list[Scored]  # the answers behind them


def score_source(
    checkpoint: Checkpoint,
    folder: str | Path,
    how: HowAsked,
    *,
    stream: StreamConfig,
    chunk: int,
) -> SourceScores:
    """Ask, answer and score a source's records; their perplexity is that of the training text.

    Args:
      folder: shards with their manifest.
      stream, chunk: as for `perplexity.score_records`.

    Raises:
      ValueError: no such source, or no record to score.
    """
    folder = Path(folder)
    records = [r for r in read_records(folder, limit=how.limit) if how.task in ("", r.task)]
    if not records:
        raise ValueError(f"{folder}: none of its first {how.limit} records is of task {how.task!r}")
    about = {
        "checkpoint": checkpoint.sha256,
        "step": checkpoint.step,
        "data": str(folder),
        "data_sha256": ShardedSource(folder).digest,
        "limit": how.limit,
    }
    shots = read_shots(how.shots, how.exemplars, asked=folder)
    groups = score_records(
        checkpoint,
        records,
        rows=how.rows,
        chunk=chunk,
        beams=how.beams,
        blind=how.blind,
        shots=shots,
        new_tokens=how.new_tokens,
    )
    scores = [score for group in groups for score in group.scores]
    scores += perplexity.score_records(
        checkpoint, records, rows=how.rows, stream=stream, chunk=chunk
    )
    return SourceScores([about | score for score in scores], groups)


def score_lines(lines: Sequence[dict[str, Any]]) -> str:
    """Scores as JSON lines."""
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def write_answers(group: Scored, out: Path, source: str) -> None:
    """All answers as JSON lines, the first ones as a sheet of pictures."""
    out.mkdir(parents=True, exist_ok=True)
    pairs = list(zip(group.records, group.answers, strict=True))
    name = f"{source}_{pairs[0][0].task}_{pairs[0][0].language}"
    lines = [
        {"key": record.key, "answer": answer.text, "ended": answer.ended, "true": reference(record)}
        for record, answer in pairs
    ]
    (out / f"{name}.jsonl").write_text(score_lines(lines), "utf-8")
    entries = [
        Entry(
            _picture(record, answer.text),
            [(_asked(record), "gray"), (reference(record), "gray"), (answer.text, "black")],
        )
        for record, answer in pairs[:SHOWN]
        if record.images
    ]
    if entries:
        draw_sheet(entries, cjk_font()).save(out / f"{name}.png")


def _picture(record: Record, text: str) -> np.ndarray:
    """The last picture, as in `chat`, with the places of the answer."""
    picture = Image.fromarray(decode(record.images[-1], SIDE))
    return np.asarray(draw_outlines(picture, places(text), cjk_font()))


def _asked(record: Record) -> str:
    if record.task == "chat":
        return record.turns[-2].text
    return record.regions[0].phrase if record.task == "referring" else record.question
