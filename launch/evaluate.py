"""Score a checkpoint on held-out records.

    python launch/evaluate.py --checkpoint=runs/stage2 --data=data/refcoco_val,data/gqa_test

Every record is asked as its task says (captions, questions, grounding, referring, OCR, dialogues),
answered greedily in batches, and scored with its task's metrics, beside the same with shuffled
pictures; its perplexity is that of the training text. Scores go to CHECKPOINT/scores.jsonl, a line
each with prompt, data, decoding, normaliser and the checkpoint's hash; answers to
CHECKPOINT/answers/, with a sheet of pictures.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_pipelines.build.ocr.fonts import cjk_font
from data_pipelines.schema import Record
from data_pipelines.stream.source import ShardedSource, read_records
from launch import logs, perplexity
from launch.loading import Checkpoint, load_checkpoint
from launch.scoring import Scored, score_records
from launch.tasks import places, reference
from qwenvl_jax.eval.sheet import SIDE, Entry, draw_sheet
from qwenvl_jax.image.decode import decode
from qwenvl_jax.image.draw import draw_outlines

SHOWN = 18


def evaluate(
    workdir: str | Path,
    folder: str | Path,
    *,
    task: str = "",
    limit: int,
    rows: int,
    beams: int = 1,
    blind: bool = True,
    checkpoint: Checkpoint | None = None,
) -> list[dict[str, Any]]:
    """Score a work directory's newest checkpoint on a source; appends to its `scores.jsonl`.

    Args:
      folder: shards with their manifest.
      task: only records of this task; "" takes all.
      limit: the first records of the source.
      rows: questions to a batch.
      checkpoint: as loaded before, for several sources.

    Raises:
      ValueError: no such checkpoint or source, or no record to score.
    """
    workdir, folder = Path(workdir), Path(folder)
    checkpoint = checkpoint or load_checkpoint(workdir)
    records = [r for r in read_records(folder, limit=limit) if task in ("", r.task)]
    if not records:
        raise ValueError(f"{folder}: none of its first {limit} records is of task {task!r}")
    about = {
        "checkpoint": checkpoint.sha256,
        "step": checkpoint.step,
        "data": str(folder),
        "data_sha256": ShardedSource(folder).digest,
        "limit": limit,
    }
    groups = score_records(checkpoint, records, rows=rows, beams=beams, blind=blind)
    scores = [score for group in groups for score in group.scores]
    scores += perplexity.score_records(checkpoint, records, rows=rows)
    scores = [about | score for score in scores]
    with (workdir / "scores.jsonl").open("a", encoding="utf-8") as out:
        out.writelines(json.dumps(score, ensure_ascii=False) + "\n" for score in scores)
    for group in groups:
        _show(group, workdir / "answers", folder.name)
    return scores


def _show(group: Scored, out: Path, source: str) -> None:
    """All answers as JSON lines, the first ones as a sheet of pictures."""
    out.mkdir(exist_ok=True)
    pairs = list(zip(group.records, group.answers, strict=True))
    name = f"{source}_{pairs[0][0].task}_{pairs[0][0].language}"
    lines = [
        {"key": record.key, "answer": answer.text, "ended": answer.ended, "true": reference(record)}
        for record, answer in pairs
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (out / f"{name}.jsonl").write_text(text, "utf-8")
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


def table(scores: list[dict[str, Any]]) -> str:
    """Scores as a Markdown table, a row each."""
    lines = ["| data | task | language | records | metric | score | blind |", "|" + "---|" * 7]
    for s in scores:
        blind = "-" if s["blind"] is None else f"{s['blind']:.3f}"
        cells = [Path(s["data"]).name, s["task"], s["language"], s["records"], s["metric"]]
        lines.append(f"| {' | '.join(map(str, cells))} | {s['value']:.3f} | {blind} |")
    return "\n".join(lines)


def main(_) -> None:
    logs.start()
    values = flags.FLAGS
    scores = []
    try:
        checkpoint = load_checkpoint(values.checkpoint)
        for folder in values.data:
            scores += evaluate(
                values.checkpoint,
                folder,
                task=values.task,
                limit=values.limit,
                rows=values.rows,
                beams=values.beams,
                blind=values.blind,
                checkpoint=checkpoint,
            )
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"evaluate: {error}")
    print(table(scores))


if __name__ == "__main__":
    flags.DEFINE_string("checkpoint", None, "A work directory.", required=True)
    flags.DEFINE_list("data", None, "Folders of held-out shards.", required=True)
    flags.DEFINE_string("task", "", "Only records of this task.")
    flags.DEFINE_integer("limit", 1_000_000, "The first records of each folder.", lower_bound=1)
    flags.DEFINE_integer("rows", 32, "Questions to a batch.", lower_bound=1)
    flags.DEFINE_integer("beams", 1, "1 is greedy decoding.", lower_bound=1)
    flags.DEFINE_bool("blind", True, "Score shuffled pictures as well.")
    app.run(main)
