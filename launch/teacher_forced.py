"""Losses of given samples: what a model thinks of texts that it did not write itself."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.stream.sample import Sample
from launch.loading import Checkpoint
from qwenvl_jax.batch import IGNORE, Batch
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.parallel import rules
from qwenvl_jax.parallel.shard import gather, spread
from qwenvl_jax.train.step import batch_losses


class SampleLoss(NamedTuple):
    total: float  # nats over the supervised tokens
    tokens: int  # how many those are


def sample_losses(
    checkpoint: Checkpoint, samples: Sequence[Sample], *, rows: int, chunk: int
) -> list[SampleLoss]:
    """The loss of every sample, each alone in its row.

    Args:
      rows: samples to a batch; on a mesh rounded up to a multiple of data x fsdp.
      chunk: labelled positions of a device whose logits exist at once; rows are padded to a
        multiple of it, so that batches of like lengths share a program.
    """
    mesh = checkpoint.mesh
    split = mesh.shape["data"] * mesh.shape["fsdp"]
    rows = -(-min(rows, len(samples)) // split) * split
    length = -(-max(len(sample.tokens) for sample in samples) // chunk) * chunk
    slots = max(len(sample.images) for sample in samples)
    out: list[SampleLoss] = []
    with jax.set_mesh(mesh):
        for first in range(0, len(samples), rows):
            here = samples[first : first + rows]
            batch = _batch(checkpoint.model, here, rows, length, slots)
            placed = spread(batch, rules.batch_sharding(mesh))
            totals_B = gather(_row_losses(checkpoint.model, checkpoint.params, placed, chunk))
            counts_B = (batch.targets != IGNORE).sum(axis=1)
            pairs = zip(totals_B.tolist(), counts_B.tolist(), strict=True)
            out += [SampleLoss(*pair) for pair in pairs][: len(here)]
    return out


@functools.partial(jax.jit, static_argnames=("config", "chunk"))
def _row_losses(config: ModelConfig, params, batch: Batch, chunk: int) -> jax.Array:
    return jnp.sum(batch_losses(config, params, batch, chunk=chunk), axis=1)


def _batch(
    config: ModelConfig, samples: Sequence[Sample], rows: int, length: int, slots: int
) -> Batch:
    """A sample a row; rows without one are padding."""
    side = config.vit.image_size
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
