"""StreamConfig: what the global batches are made of, checked before any file is opened."""

import dataclasses
import math
from typing import Literal, get_args

import numpy as np

from qwenvl_jax.batch import Batch
from qwenvl_jax.image.decode import Way


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """One folder of shards with its share of the mix."""

    name: str
    path: str
    language: Literal["en", "zh"]
    weight: float

    def __post_init__(self):
        key = f"config.data.sources.{self.name}"
        if not 0 < self.weight < math.inf:
            raise ValueError(f"{key}.weight={self.weight} must be positive and finite")
        if self.language not in ("en", "zh"):
            raise ValueError(f"{key}.language={self.language!r} is neither en nor zh")


@dataclasses.dataclass(frozen=True)
class StreamConfig:
    """Rows of `seq_len` positions with `image_slots` images; see `qwenvl_jax/batch.py`."""

    sources: tuple[SourceConfig, ...]
    tokenizer: str  # a file; empty: the installed Qwen vocabulary
    seq_len: int
    image_slots: int
    image_size: int
    num_queries: int
    global_rows: int
    virtual_shards: int = 64
    look_ahead: int = 64  # samples among which a virtual shard chooses what fills a row
    seed: int = 0
    decode: Way = "exact"  # or "fast": pixels a little off, in a third of the time
    num_workers: int = 0  # processes; 0 reads in the trainer's own
    prefetch: int = 4  # rows that a worker prepares ahead

    def __post_init__(self):
        least = dict(seq_len=1, image_slots=0, image_size=1, num_queries=1, global_rows=1)
        least |= dict(virtual_shards=1, look_ahead=1, num_workers=0, prefetch=1)
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"config.data.{name}={getattr(self, name)}: at least {minimum}")
        if self.decode not in get_args(Way):
            raise ValueError(f"config.data.decode={self.decode!r} is neither exact nor fast")
        if not self.sources:
            raise ValueError("config.data.sources is empty")
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError(f"config.data.sources: {names} names a source twice")
        if self.global_rows % self.virtual_shards:
            raise ValueError(
                f"config.data.global_rows={self.global_rows} is not a multiple of"
                f" config.data.virtual_shards={self.virtual_shards}"
            )
        if self.image_slots and self.num_queries + 2 > self.seq_len:
            raise ValueError(
                f"config.data.seq_len={self.seq_len} has no room for one image of"
                f" config.data.num_queries={self.num_queries}"
            )

    def batch_shapes(self) -> Batch:
        """The global batch as arrays' shapes and dtypes, without the arrays."""
        import jax  # the only place: workers never come here

        rows, length, slots = self.global_rows, self.seq_len, self.image_slots
        text = jax.ShapeDtypeStruct((rows, length), np.int32)
        pixels = (rows, slots, self.image_size, self.image_size, 3)
        images = jax.ShapeDtypeStruct(pixels, np.uint8)
        mask = jax.ShapeDtypeStruct((rows, slots), np.bool_)
        return Batch(text, text, text, text, text, images, mask)
