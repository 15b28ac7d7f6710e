"""Packed batches made by brute force, and a model small enough to compile in seconds."""

import jax
import numpy as np

from qwenvl_jax.batch import IGNORE, Batch
from qwenvl_jax.model.config import AdapterConfig, DecoderConfig, ModelConfig, VitConfig

PAD_ID = 60  # <imgpad> of the toy vocabulary


def toy_model(**changes) -> ModelConfig:
    """Every size differs from every other, so that a shape names its parameter."""
    return ModelConfig(
        vit=VitConfig(
            image_size=16, patch_size=8, width=24, layers=3, heads=4, mlp_width=80, position_grid=2
        ),
        adapter=AdapterConfig(num_queries=4, heads=4),
        decoder=DecoderConfig(
            vocab_size=64,
            width=32,
            layers=2,
            heads=4,
            mlp_width=48,
            train_length=64,
            image_pad_id=PAD_ID,
        ),
        **{"dtype": "float32", "remat": "none"} | changes,
    )


def packed_batch(rng: np.random.Generator, *, rows: int = 8, length: int = 32) -> Batch:
    """Rows of samples of 6 to 12 positions; every other sample has an image; two sources."""
    shape = (rows, length)
    tokens, segments, positions, sources = (np.zeros(shape, np.int32) for _ in range(4))
    targets = np.full(shape, IGNORE, np.int32)
    images = np.zeros((rows, 4, 16, 16, 3), np.uint8)
    mask = np.zeros((rows, 4), bool)
    for row in range(rows):
        start, segment, slot = 0, 1, 0
        while start + 12 <= length:
            size = int(rng.integers(6, 13))
            here = slice(start, start + size)
            text = rng.integers(0, 50, size)
            first = 0
            if segment % 2:
                text[:4], first = PAD_ID, 4
                images[row, slot] = rng.integers(0, 256, (16, 16, 3))
                mask[row, slot] = True
                slot += 1
            tokens[row, here] = text
            targets[row, start + first : start + size - 1] = text[first + 1 :]
            segments[row, here], positions[row, here] = segment, np.arange(size)
            sources[row, here] = segment % 2
            start, segment = start + size, segment + 1
    return Batch(tokens, targets, segments, positions, sources, images, mask)


def shapes_of(batch: Batch) -> Batch:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)
