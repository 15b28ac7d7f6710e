"""Score a checkpoint on held-out records.

    python launch/evaluate.py --checkpoint=runs/stage2 --data=data/refcoco_val,data/gqa_test

Every record is asked as its task says (captions, questions, grounding, referring, OCR, dialogues),
answered greedily in batches, and scored with its task's metrics, beside the same with shuffled
pictures; its perplexity is that of the training text. Scores go to CHECKPOINT/scores.jsonl, a line
each with prompt, data, decoding, normaliser and the checkpoint's hash; answers to
CHECKPOINT/answers/, with a sheet of pictures.
"""

import sys
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from launch import checks, logs, programs, stage
from launch.loading import Checkpoint, load_checkpoint
from launch.source_scores import HowAsked, score_lines, score_source, write_answers
from qwenvl_jax import command_line


def evaluate(
    workdir: str | Path,
    folder: str | Path,
    how: HowAsked,
    *,
    checkpoint: Checkpoint | None = None,
) -> list[dict[str, Any]]:
    """Score a work directory's newest checkpoint on a source; appends to its `scores.jsonl`.

    Args:
      folder: shards with their manifest.
      checkpoint: as loaded before, for several sources.

    Raises:
      ValueError: no such checkpoint or source, or no record to score.
    """
    workdir, folder = Path(workdir), Path(folder)
    checkpoint = checkpoint or load_checkpoint(workdir)
    training, _, heldout = stage.read(ConfigDict(checkpoint.run_config))
    found = score_source(checkpoint, folder, how, stream=heldout, chunk=training.loss_chunk)
    with (workdir / "scores.jsonl").open("a", encoding="utf-8") as out:
        out.write(score_lines(found.lines))
    for group in found.groups:
        write_answers(group, workdir / "answers", folder.name)
    return found.lines


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
    how = HowAsked(**{name: getattr(values, name) for name in HowAsked._fields})
    checks.folders(folder for folder in (*values.data, values.exemplars) if folder)
    programs.keep(values.checkpoint)
    checkpoint = load_checkpoint(values.checkpoint)
    command_line.writable(values.checkpoint, "--checkpoint")
    for folder in values.data:
        scores += evaluate(values.checkpoint, folder, how, checkpoint=checkpoint)
    print(table(scores))


if __name__ == "__main__":
    flags.DEFINE_string("checkpoint", None, "A work directory.")
    flags.DEFINE_list("data", None, "Folders of held-out shards.")
    flags.DEFINE_string("task", "", "Only records of this task.")
    flags.DEFINE_integer("limit", 1_000_000, "The first records of each folder.", lower_bound=1)
    flags.DEFINE_integer("rows", 32, "Questions to a batch.", lower_bound=1)
    flags.DEFINE_integer("beams", 1, "1 is greedy decoding.", lower_bound=1)
    flags.DEFINE_bool("blind", True, "Score shuffled pictures as well.")
    flags.DEFINE_integer("shots", 0, "Solved records before each question.", lower_bound=0)
    flags.DEFINE_integer("new_tokens", 0, "The longest answer; 0: the task's.", lower_bound=0)
    flags.DEFINE_string("exemplars", "", "The source they come from, such as the train split.")
    command_line.start(main, required=["checkpoint", "data"])
