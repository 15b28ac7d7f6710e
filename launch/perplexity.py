"""Perplexity of held-out records: the supervised tokens of their training text, teacher-forced."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from data_pipelines.schema import Record, pack
from data_pipelines.stream.config import StreamConfig
from data_pipelines.stream.sample import Sample, make_sample
from launch.loading import Checkpoint
from launch.teacher_forced import sample_losses
from qwenvl_jax.eval.perplexity import perplexity


def score_records(
    checkpoint: Checkpoint,
    records: Sequence[Record],
    *,
    rows: int,
    stream: StreamConfig,
    chunk: int,
) -> list[dict[str, Any]]:
    """A score for each task and language, as plain data.

    Args:
      rows: samples to a batch, one a row.
      stream: how the checkpoint's run made samples of held-out records.
      chunk: its `loss_chunk`.
    """
    key = lambda record: (record.task, record.language)  # noqa: E731
    scores = []
    for (task, language), group in itertools.groupby(sorted(records, key=key), key):
        made = [make_sample(pack(record), stream, checkpoint.tokenizer) for record in group]
        samples = [sample for sample in made if isinstance(sample, Sample)]
        if not samples:
            continue
        losses = sample_losses(checkpoint, samples, rows=rows, chunk=chunk)
        # A mean over all tokens together: a long record counts for more than a short one.
        mean = sum(loss.total for loss in losses) / sum(loss.tokens for loss in losses)
        scores.append(
            {
                "task": task,
                "language": language,
                "records": len(samples),
                "skipped": dict(Counter(reason for reason in made if isinstance(reason, str))),
                "shots": 0,
                "prompt": "as in training",
                "decoding": "teacher-forced",
                "metric": "perplexity",
                "value": perplexity({"loss": mean})["perplexity"],
                "blind": None,
                "normaliser": "per supervised token, the end included",
            }
        )
    return scores
