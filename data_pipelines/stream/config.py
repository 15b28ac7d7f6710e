"""StreamConfig: what the global batches are made of, checked before any file is opened."""

import dataclasses
import itertools
import math
from typing import Literal, get_args

import numpy as np

from qwenvl_jax.batch import Batch
from qwenvl_jax.image.decode import Way


@dataclasses.dataclass(frozen=True)
class WeightChange:
    """A source's weight from a step on."""

    step: int
    weight: float


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """One folder of shards with its share of the mix.

    Weights are of samples, not of tokens, and count relative to those of the other sources at the
    same step. 0 leaves a source out until, or after, a change.
    """

    name: str
    path: str
    language: Literal["en", "zh"]
    weight: float
    changes: tuple[WeightChange, ...] = ()

    def __post_init__(self):
        key = f"config.data.sources.{self.name}"
        weights = [self.weight, *(change.weight for change in self.changes)]
        for weight in weights:
            if not 0 <= weight < math.inf:
                raise ValueError(f"{key}.weight={weight} must be finite and not negative")
        if not any(weights):
            raise ValueError(f"{key}.weight=0 at every step: leave the source out")
        steps = [0, *(change.step for change in self.changes)]
        if any(later <= earlier for earlier, later in itertools.pairwise(steps)):
            raise ValueError(f"{key}.changes: steps {steps[1:]} must be positive and ascending")
        if self.language not in ("en", "zh"):
            raise ValueError(f"{key}.language={self.language!r} is neither en nor zh")

    def weight_at(self, step: int) -> float:
        past = [change.weight for change in self.changes if change.step <= step]
        return past[-1] if past else self.weight


@dataclasses.dataclass(frozen=True)
class StreamConfig:
    """Rows of `seq_len` positions, of which each `slot_rows` successive ones have `image_slots`
    images; see `qwenvl_jax/batch.py`.

    The vision tower computes every slot, filled or not. A few percent more slots than pictures
    suffice where several rows have them together; `slots_empty` in a run's metrics is what is left
    over. Where a microbatch has no room for so many rows of a device, they go to `slot_turns`
    successive microbatches, of which each has its share of the slots. Four rows that have 15:

        slot_turns   microbatch 0   1        2    3
        1            rows 0 1 2 3: 15
        2            rows 0 1: 8    2 3: 7
        4            row 0: 4       1: 4     2: 4    3: 3
    """

    sources: tuple[SourceConfig, ...]
    tokenizer: str  # a file; empty: the installed Qwen vocabulary
    seq_len: int
    image_slots: int
    image_size: int
    num_queries: int
    global_rows: int
    slot_rows: int = 1  # a slot_turns-th of them divides a device's rows of a microbatch
    slot_turns: int = 1  # divides slot_rows and the number of microbatches
    virtual_shards: int = 64
    look_ahead: int = 64  # samples among which a virtual shard chooses what fills a row
    seed: int = 0
    decode: Way = "exact"  # or "fast": pixels a little off, in a third of the time
    num_workers: int = 0  # processes; 0 reads in the trainer's own
    prefetch: int = 4  # rows that a worker prepares ahead
    max_refused: float = 0.5  # share of a source's records; above it the run ends
    verify: bool = True  # compare shards with their manifests' sha256 while they are read

    def __post_init__(self):
        least = dict(seq_len=1, image_slots=0, image_size=1, num_queries=1, global_rows=1)
        least |= dict(slot_rows=1, slot_turns=1, virtual_shards=1, look_ahead=1, num_workers=0)
        least |= dict(prefetch=1)
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"config.data.{name}={getattr(self, name)}: at least {minimum}")
        if not 0 < self.max_refused <= 1:
            raise ValueError(f"config.data.max_refused={self.max_refused} must be in (0, 1]")
        if self.decode not in get_args(Way):
            raise ValueError(f"config.data.decode={self.decode!r} is neither exact nor fast")
        if not self.sources:
            raise ValueError("config.data.sources is empty")
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError(f"config.data.sources: {names} names a source twice")
        for step, weights in self.weight_history():
            if not any(weights):
                raise ValueError(f"config.data.sources: at step {step} every weight is 0")
        if self.global_rows % self.virtual_shards:
            raise ValueError(
                f"config.data.global_rows={self.global_rows} is not a multiple of"
                f" config.data.virtual_shards={self.virtual_shards}"
            )
        rows = self.global_rows // self.virtual_shards
        if rows % self.slot_rows:
            raise ValueError(
                f"config.data.slot_rows={self.slot_rows} does not divide the {rows} rows of a batch"
                " that a virtual shard fills (config.data.global_rows / config.data.virtual_shards)"
            )
        if self.slot_rows % self.slot_turns:
            raise ValueError(
                f"config.data.slot_turns={self.slot_turns} does not divide"
                f" config.data.slot_rows={self.slot_rows}"
            )
        if self.image_slots and self.num_queries + 2 > self.seq_len:
            raise ValueError(
                f"config.data.seq_len={self.seq_len} has no room for one image of"
                f" config.model.adapter.num_queries={self.num_queries}"
            )

    def weights_at(self, step: int) -> list[float]:
        """Of each source, for the batch of a step."""
        return [source.weight_at(step) for source in self.sources]

    def weight_history(self, before: int | None = None) -> list[tuple[int, list[float]]]:
        """(first step, weights) of each stretch of steps, of those that start before a step."""
        steps = {0} | {change.step for source in self.sources for change in source.changes}
        history: list[tuple[int, list[float]]] = []
        for step in sorted(step for step in steps if before is None or step < max(before, 1)):
            weights = self.weights_at(step)
            if not history or weights != history[-1][1]:
                history.append((step, weights))
        return history

    @property
    def group_rows(self) -> int:
        """Rows that share their image slots: those of `slot_rows` that are in one microbatch."""
        return self.slot_rows // self.slot_turns

    @property
    def group_slots(self) -> tuple[int, ...]:
        """Image slots of successive groups of rows, over and over; most first."""
        each, more = divmod(self.image_slots, self.slot_turns)
        return tuple(each + (turn < more) for turn in range(self.slot_turns))

    @property
    def batch_slots(self) -> int:
        """Image slots that the vision tower computes for a batch."""
        return self.global_rows // self.slot_rows * self.image_slots

    def batch_shapes(self) -> Batch:
        """The global batch as arrays' shapes and dtypes, without the arrays. Every group of rows
        has an array of as many images as the first may have.
        """
        import jax  # the only place: workers never come here

        groups, slots = self.global_rows // self.group_rows, self.group_slots[0]
        text = jax.ShapeDtypeStruct((self.global_rows, self.seq_len), np.int32)
        pixels = (groups, slots, self.image_size, self.image_size, 3)
        images = jax.ShapeDtypeStruct(pixels, np.uint8)
        mask = jax.ShapeDtypeStruct((groups, slots), np.bool_)
        return Batch(text, text, text, text, text, images, mask)
