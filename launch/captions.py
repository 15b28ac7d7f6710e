"""The demo's test: captions of held-out scenes.

Per language, the held-out loss and the share of object kinds named correctly, each beside the same
figure with the pictures shuffled: a model that does not look at them scores the same on both.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from data_pipelines.build.ocr.fonts import cjk_font
from data_pipelines.schema import Record
from data_pipelines.stream.config import StreamConfig
from data_pipelines.stream.source import read_records
from data_pipelines.stream.stream import eval_batches
from launch.loading import Checkpoint, load_checkpoint
from launch.stage import read
from qwenvl_jax.batch import Batch
from qwenvl_jax.checkpoint import run_config
from qwenvl_jax.eval import kinds
from qwenvl_jax.eval.sheet import Entry, draw_sheet
from qwenvl_jax.image.decode import decode
from qwenvl_jax.inference.prompts import Decoding, Prompt, continue_prompts
from qwenvl_jax.text import prompts
from qwenvl_jax.train.config import TrainConfig
from qwenvl_jax.train.report import Source, losses_by_group
from qwenvl_jax.train.step import make_eval_step

BATCH, NEW_TOKENS, SHOWN = 64, 40, 18


class Captions(NamedTuple):
    """One language's held-out scenes."""

    records: list[Record]
    images_NRR3: np.ndarray
    texts: list[str]


def caption(checkpoint: Checkpoint, records: list[Record], language: str) -> Captions:
    """Greedy captions of the records' pictures."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    spans = [span for span in prompts.caption("", language=language) if not span.supervised]
    prompt, _ = prompts.encode_spans(spans, tokenizer, num_queries=model.adapter.num_queries)
    images = np.stack([decode(record.images[0], model.vit.image_size) for record in records])
    decoding = Decoding(max_new_tokens=NEW_TOKENS, stop_ids=(tokenizer.specials.eos,))
    asked = [Prompt(prompt, (image,)) for image in images]
    answers = continue_prompts(model, checkpoint.params, asked, decoding, rows=BATCH)
    return Captions(records, images, [tokenizer.decode(ids).strip() for ids in answers])


def heldout_losses(
    config: TrainConfig, stream: StreamConfig, params: Any, *, batches: int, shuffled: bool
) -> dict[str, float]:
    """Mean held-out loss per source and language; `shuffled` gives every caption another row's
    pictures.
    """
    sources = [Source(source.name, source.language) for source in stream.sources]
    step = jax.jit(make_eval_step(config.model, num_sources=len(sources), chunk=config.loss_chunk))
    total: dict[str, Any] = {}
    for batch in eval_batches(stream, num_batches=batches):
        batch = _shuffle(batch) if shuffled else batch
        sums = jax.device_get(step(params, {}, batch))
        total = {name: total.get(name, 0.0) + np.asarray(sums[name], float) for name in sums}
    return losses_by_group(total, sources, "loss")


def _shuffle(batch: Batch) -> Batch:
    """Move every picture of the batch to the next filled slot."""
    images, filled = batch.images.copy(), batch.image_mask
    images[filled] = np.roll(images[filled], 1, axis=0)
    return batch._replace(images=images)


def evaluate(workdir: str | Path, data: str | Path, *, scenes: int) -> dict[str, Any]:
    """Score a stage's newest checkpoint; writes `evaluation.json` and `captions.png` into its work
    directory.
    """
    workdir, data = Path(workdir), Path(data)
    config, _, heldout = read(ConfigDict(run_config.read(workdir)))
    checkpoint = load_checkpoint(workdir)
    results: dict[str, Any] = {"kinds_named": {}, "kinds_named_shuffled": {}, "kinds_correct": {}}
    results["kinds_named_new_layout"] = {}
    captions = {}
    for language in ("en", "zh"):
        records = read_records(data / "test" / f"scenes_{language}", limit=scenes)
        captions[language] = done = caption(checkpoint, records, language)
        truth = [record.meta["kinds"] for record in records]
        vocabulary = sorted({name for names in truth for name in names})
        scores = kinds.score(done.texts, truth, vocabulary, language)
        # Every prompt is the same, so a shuffled picture yields the caption of the picture that
        # came in its place.
        moved = kinds.score(np.roll(done.texts, 1).tolist(), truth, vocabulary, language)
        new = [i for i, record in enumerate(records) if record.meta["held_out"]]
        fresh = kinds.score(
            [done.texts[i] for i in new], [truth[i] for i in new], vocabulary, language
        )
        results["kinds_named"][language] = scores.named
        results["kinds_correct"][language] = scores.correct
        results["kinds_named_shuffled"][language] = moved.named
        results["kinds_named_new_layout"][language] = fresh.named
    for key, shuffled in (("loss", False), ("loss_shuffled", True)):
        losses = heldout_losses(config, heldout, checkpoint.params, batches=8, shuffled=shuffled)
        results[key] = {language: losses.get(f"loss/{language}") for language in ("en", "zh")}
    (workdir / "evaluation.json").write_text(json.dumps(results, indent=1))
    _sheet(captions).save(workdir / "captions.png")
    return results


def _sheet(captions: dict[str, Captions]):
    entries = [
        Entry(
            captions["en"].images_NRR3[i],
            [
                line
                for language in ("en", "zh")
                for line in (
                    (captions[language].records[i].text, "gray"),
                    (captions[language].texts[i], "black"),
                )
            ],
        )
        for i in range(min(SHOWN, len(captions["en"].texts)))
    ]
    return draw_sheet(entries, cjk_font())


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table, a row per figure."""
    lines = ["| figure | English | Chinese |", "|---|---|---|"]
    for name, values in results.items():
        if isinstance(values, dict) and {"en", "zh"} <= values.keys():
            cells = " | ".join(
                "-" if values[k] is None else f"{values[k]:.3f}" for k in ("en", "zh")
            )
            lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)
