"""What a step trained on: `python launch/batch.py --workdir=runs/stage1 --step=120`.

The stream is a function of (config, n), so a batch can be shown long after, without an accelerator.
Prints every sample's row, source, key and text, its labelled part in [[..]]. Writes the same as
`batch.jsonl` beside `batch.png`, a sheet of the images. With `--workdir` the config, the restarts
and the newest saved state before the step are the run's. With `--config` the batches before the
step are read first, from the beginning.
"""

import dataclasses
import itertools
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np
from absl import flags
from ml_collections import ConfigDict
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_pipelines.build.ocr.fonts import cjk_font
from data_pipelines.stream.config import StreamConfig
from data_pipelines.stream.contents import Contents, Packed
from launch import logs, pages, stage
from qwenvl_jax import command_line
from qwenvl_jax.batch import IGNORE
from qwenvl_jax.checkpoint import intact, run_config, vocabulary
from qwenvl_jax.eval.sheet import Entry, draw_sheet
from qwenvl_jax.text.tokenizer import Tokenizer, load_tokenizer
from qwenvl_jax.train.restarts import batch_index

MOST_IMAGES = 60  # of a sheet


def of_run(workdir: Path, step: int) -> tuple[StreamConfig, np.ndarray | None, int]:
    """A run's stream: (settings, the saved state before the step, batches from there to it).

    Raises:
      ValueError: no work directory there.
    """
    plain = run_config.read(workdir)
    config = ConfigDict(plain)
    pages.complete(config)
    _, stream, _ = stage.read(config)
    stream = dataclasses.replace(
        stream, tokenizer=str(vocabulary.find(workdir, plain) or ""), num_workers=0
    )
    kept = intact.steps(workdir)
    notes = intact.read_meta(workdir, kept[0]).get("extra", {}) if kept else {}
    restarts = notes.get("restarts", [])
    before = [number for number in kept if number <= step]
    wanted = batch_index(step, restarts)
    if not before:
        return stream, None, wanted
    saved = intact.read_meta(workdir, before[0])
    # A restart at the saved step left its batches out after that state.
    done = batch_index(before[0], [r for r in restarts if r["step"] < before[0]])
    return stream, np.asarray(saved["data"], np.int64), wanted - done


def text_of(sample: Packed, tokenizer: Tokenizer) -> str:
    """The text as it is trained on; images as <image>, the labelled parts in [[..]]."""
    pad = tokenizer.specials.imgpad
    labelled = np.zeros(len(sample.tokens), bool)
    labelled[1:] = sample.targets[:-1] != IGNORE
    parts = []
    kinds = zip(sample.tokens.tolist(), labelled.tolist(), strict=True)
    for (is_pad, is_label), run in itertools.groupby(kinds, lambda x: (x[0] == pad, x[1])):
        ids = [token for token, _ in run]
        said = "<image>" if is_pad else tokenizer.decode(ids)
        parts.append(f"[[{said}]]" if is_label else said)
    return "".join(parts)


def show(samples: Iterable[Packed], tokenizer: Tokenizer, out: Path, *, title: str) -> int:
    """Print the samples and write `batch.jsonl` and `batch.png`; returns how many there were."""
    entries, count = [], 0
    out.mkdir(parents=True, exist_ok=True)
    with (out / "batch.jsonl").open("w", encoding="utf-8") as file:
        for sample in samples:
            text = text_of(sample, tokenizer)
            about = {
                "row": sample.row,
                "segment": sample.segment,
                "source": sample.source,
                "index": sample.index,
                "key": sample.record.key,
                "task": sample.record.task,
                "language": sample.record.language,
                "images": len(sample.images),
                "tokens": len(sample.tokens),
                "labelled": int(np.sum(sample.targets != IGNORE)),
                "text": text,
            }
            file.write(json.dumps(about, ensure_ascii=False) + "\n")
            where = f"row {sample.row}.{sample.segment}  {sample.source}  {sample.record.key}"
            print(f"{where}\n    {text}")
            for image in sample.images:
                entries.append(Entry(image, [(where, "gray"), (text, "black")]))
            count += 1
    if entries:
        sheet = draw_sheet(entries[:MOST_IMAGES], cjk_font(), title=title)
        sheet.save(out / "batch.png")
    return count


def main(_) -> None:
    values = flags.FLAGS
    logs.start()
    if (values.workdir is None) == (values.config is None):
        raise ValueError("--workdir or --config: one of the two says which stream")
    if values.workdir:
        stream, state, ahead = of_run(Path(values.workdir), values.step)
        name = values.workdir
    else:
        _, stream, _ = stage.read(values.config)
        state, ahead, name = None, values.step, "config"
    contents = Contents(stream, state=state)
    for _ in tqdm(range(ahead), desc="batches before it", unit="batch", disable=not ahead):
        contents.skip()
    rows = {int(row) for row in values.rows}
    samples = (s for s in contents.batch() if not rows or s.row in rows)
    out = Path(values.out or f"{values.workdir or 'runs/batch'}/batches/{values.step}")
    tokenizer = load_tokenizer(stream.tokenizer or None)
    title = f"Images of step {values.step} of {name}, with the text that is trained on"
    count = show(samples, tokenizer, out, title=title)
    if not count:
        raise ValueError(f"--rows={values.rows}: a batch has rows 0 to {stream.global_rows - 1}")
    print(f"{count} samples of step {values.step}; look at {out}/batch.png and {out}/batch.jsonl")


if __name__ == "__main__":
    pages.define_flag()
    flags.DEFINE_string("workdir", None, "A run, in place of --config.")
    flags.DEFINE_integer("step", None, "The step, from 0.", lower_bound=0)
    flags.DEFINE_list("rows", [], "Only these rows of the batch.")
    flags.DEFINE_string("out", None, "Where the files go; by default WORKDIR/batches/STEP.")
    command_line.start(main, required=["step"])
