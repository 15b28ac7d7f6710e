"""The state of a virtual shard: one vector of int64, so that a row can carry it.

    [fingerprint | batches | read of each source | of these accepted | of those before the weights
     last changed | skipped for each reason | samples emitted | waiting (source, position) x
     look_ahead]

The numbers are those after a whole batch: a state from within one is not to be continued. Positions
count the shard's own reads of a source.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from data_pipelines.stream.config import StreamConfig
from data_pipelines.stream.sample import REASONS
from data_pipelines.stream.source import ShardedSource


class State(NamedTuple):
    """A state vector, taken apart."""

    fingerprint: int
    step: int  # the batch that comes next
    taken: list[int]  # reads of each source
    accepted: list[int]  # that became samples: what the mixture counts
    before: list[int]
    skipped: list[int]
    emitted: int
    waiting: list[tuple[int, int]]


def fingerprint(config: StreamConfig, sources: Sequence[ShardedSource], step: int) -> int:
    """What a state's numbers mean depends on these facts; a state of others is refused.

    Changes of weights that no batch before `step` has seen are not among them: a run may be resumed
    with another future.
    """
    mix = [source.name for source in config.sources], config.weight_history(step)
    contents = [source.digest for source in sources]
    facts = (config.virtual_shards, config.look_ahead, config.seed, mix, contents)
    return int.from_bytes(hashlib.sha256(repr(facts).encode()).digest()[:7], "big")


def first_state(config: StreamConfig, sources: Sequence[ShardedSource]) -> Int64[np.ndarray, " S"]:
    """The state of a virtual shard that has read nothing."""
    counters = np.zeros(1 + 3 * len(sources) + len(REASONS) + 1, np.int64)
    waiting = np.full(2 * config.look_ahead, -1, np.int64)
    head = np.array([fingerprint(config, sources, 0)], np.int64)
    return np.concatenate([head, counters, waiting])


def check_state(
    state: Int64[np.ndarray, " S"], config: StreamConfig, sources: Sequence[ShardedSource]
) -> None:
    """Refuse the state of another stream, without reading a record.

    Raises:
      ValueError: what the state's numbers mean has changed; the message says what may have.
    """
    parts = split_state(state, config)
    if parts.fingerprint != fingerprint(config, sources, parts.step):
        raise ValueError(
            "the saved data state belongs to another stream: config.data.virtual_shards,"
            " look_ahead, seed, the names, past weights or order of config.data.sources, or the"
            " shards that their paths hold have changed"
        )


def split_state(state: Int64[np.ndarray, " S"], config: StreamConfig) -> State:
    """A state vector by its parts.

    Raises:
      ValueError: the vector's length is not what the config's geometry gives.
    """
    sources, reasons = len(config.sources), len(REASONS)
    sizes = [1, 1, sources, sources, sources, reasons, 1, 2 * config.look_ahead]
    if len(state) == sum(sizes) - sources:  # of a version that counted every read
        head = 2 + sources
        state = np.concatenate([state[:head], state[2:head], state[head:]])
    if len(state) != sum(sizes):
        raise ValueError(
            f"the saved data state has {len(state)} numbers a shard, this config's has"
            f" {sum(sizes)}: config.data.sources or config.data.look_ahead have changed"
        )
    parts = [part.tolist() for part in np.split(state, np.cumsum(sizes)[:-1])]
    [mark], [step], taken, accepted, before, skipped, [emitted], waiting = parts
    pairs = [pair for pair in zip(waiting[::2], waiting[1::2], strict=True) if pair[0] >= 0]
    return State(mark, step, taken, accepted, before, skipped, emitted, pairs)
