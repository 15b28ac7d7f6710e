"""Perplexity of held-out records: the supervised tokens of their training text, teacher-forced."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from data_pipelines.schema import Record, pack
from data_pipelines.stream.sample import Sample, make_sample
from launch import stage
from launch.loading import Checkpoint
from qwenvl_jax.batch import IGNORE, Batch
from qwenvl_jax.eval.perplexity import perplexity
from qwenvl_jax.parallel import rules
from qwenvl_jax.train.step import make_eval_step


def score_records(
    checkpoint: Checkpoint, records: Sequence[Record], *, rows: int
) -> list[dict[str, Any]]:
    """A score for each task and language, as plain data.

    Args:
      rows: samples to a batch, one a row.
    """
    training, _, stream = stage.parse(ConfigDict(checkpoint.run_config))
    step = jax.jit(make_eval_step(checkpoint.model, num_sources=1, chunk=training.loss_chunk))
    key = lambda record: (record.task, record.language)  # noqa: E731
    scores = []
    for (task, language), group in itertools.groupby(sorted(records, key=key), key):
        made = [make_sample(pack(record), stream, checkpoint.tokenizer) for record in group]
        samples = [sample for sample in made if isinstance(sample, Sample)]
        if not samples:
            continue
        loss = _loss(checkpoint, samples, step, rows=rows, chunk=training.loss_chunk)
        scores.append(
            {
                "task": task,
                "language": language,
                "records": len(samples),
                "skipped": dict(Counter(reason for reason in made if isinstance(reason, str))),
                "prompt": "as in training",
                "decoding": "teacher-forced",
                "metric": "perplexity",
                "value": perplexity({"loss": loss})["perplexity"],
                "blind": None,
                "normaliser": "per supervised token, the end included",
            }
        )
    return scores


def _loss(checkpoint: Checkpoint, samples: list[Sample], step, *, rows: int, chunk: int) -> float:
    """Mean loss in nats a supervised token, over all samples together."""
    mesh = checkpoint.mesh
    split = mesh.shape["data"] * mesh.shape["fsdp"]
    rows = -(-rows // split) * split
    length = -(-max(len(sample.tokens) for sample in samples) // chunk) * chunk
    slots = max(len(sample.images) for sample in samples)
    total = count = 0.0
    with jax.set_mesh(mesh):
        for first in range(0, len(samples), rows):
            batch = _batch(checkpoint, samples[first : first + rows], rows, length, slots)
            sums = step(checkpoint.params, {}, jax.device_put(batch, rules.batch_sharding(mesh)))
            total += float(np.sum(sums["loss_sum"]))
            count += float(np.sum(sums["labelled"]))
    return total / count


def _batch(
    checkpoint: Checkpoint, samples: list[Sample], rows: int, length: int, slots: int
) -> Batch:
    """A sample a row; rows without one are padding."""
    side = checkpoint.model.vit.image_size
    tokens, segments, sources = (np.zeros((rows, length), np.int32) for _ in range(3))
    targets = np.full((rows, length), IGNORE, np.int32)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length))
    images = np.zeros((rows, slots, side, side, 3), np.uint8)
    mask = np.zeros((rows, slots), bool)
    for row, sample in enumerate(samples):
        size, pictures = len(sample.tokens), len(sample.images)
        tokens[row, :size], targets[row, :size] = sample.tokens, sample.targets
        segments[row, :size] = 1
        for slot in range(pictures):
            images[row, slot] = sample.images[slot]
        mask[row, :pictures] = True
    return Batch(tokens, targets, segments, positions, sources, images, mask)
