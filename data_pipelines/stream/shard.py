"""A virtual shard: its own order, mix, packing and state, as if it were alone in the world.

Its state is one vector of int64, so that a row can carry it:

    [fingerprint | taken of each source | skipped for each reason | samples emitted |
     waiting (source, position) x look_ahead]

Positions count this shard's own reads of a source; the shard's p-th read is position p x V + v of
the source's endless order. Waiting samples are saved as positions, and read and decoded again on
restore.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from data_pipelines.stream.config import StreamConfig
from data_pipelines.stream.mixture import next_source
from data_pipelines.stream.order import record_at
from data_pipelines.stream.pack import pack
from data_pipelines.stream.sample import REASONS, Sample, make_sample
from data_pipelines.stream.source import ShardedSource
from qwenvl_jax.batch import IGNORE, Batch
from qwenvl_jax.text.tokenizer import Tokenizer

# Records refused in a row, after which the settings or the data must be wrong.
GIVE_UP = 10_000


def fingerprint(config: StreamConfig, sources: Sequence[ShardedSource]) -> int:
    """What a state's numbers mean depends on these facts; a state of others is refused."""
    mix = [(source.name, float(source.weight)) for source in config.sources]
    contents = [source.digest for source in sources]
    facts = (config.virtual_shards, config.look_ahead, config.seed, mix, contents)
    return int.from_bytes(hashlib.sha256(repr(facts).encode()).digest()[:7], "big")


def first_state(config: StreamConfig, sources: Sequence[ShardedSource]) -> Int64[np.ndarray, " S"]:
    """The state of a virtual shard that has read nothing."""
    counters = np.zeros(len(sources) + len(REASONS) + 1, np.int64)
    waiting = np.full(2 * config.look_ahead, -1, np.int64)
    head = np.array([fingerprint(config, sources)], np.int64)
    return np.concatenate([head, counters, waiting])


def check_state(
    state: Int64[np.ndarray, " S"], config: StreamConfig, sources: Sequence[ShardedSource]
) -> None:
    """Refuse the state of another stream, without reading a record.

    Raises:
      ValueError: what the state's numbers mean has changed; the message says what may have.
    """
    split_state(state, config)
    if state[0] != fingerprint(config, sources):
        raise ValueError(
            "the saved data state belongs to another stream: config.data.virtual_shards,"
            " look_ahead, seed, the names, weights or order of config.data.sources, or the"
            " shards that their paths hold have changed"
        )


class VirtualShard:
    """Rows of shard `index`; `state()` after a row continues exactly there."""

    def __init__(
        self,
        config: StreamConfig,
        index: int,
        sources: Sequence[ShardedSource],
        tokenizer: Tokenizer,
        state: Int64[np.ndarray, " S"],
    ):
        self._config, self._index = config, index
        self._sources, self._tokenizer = sources, tokenizer
        total = sum(source.weight for source in config.sources)
        self._weights = [source.weight / total for source in config.sources]
        taken, skipped, emitted, waiting = split_state(state, config)
        self._fingerprint, self._emitted = int(state[0]), int(emitted)
        self._taken = taken.tolist()
        self._skipped = dict(zip(REASONS, skipped.tolist(), strict=True))
        self._waiting = [
            (source, position, self._read_again(source, position))
            for source, position in waiting[waiting[:, 0] >= 0].tolist()
        ]

    def state(self) -> Int64[np.ndarray, " S"]:
        waiting = np.full((self._config.look_ahead, 2), -1, np.int64)
        for place, (source, position, _) in enumerate(self._waiting):
            waiting[place] = source, position
        head = [self._fingerprint, *self._taken, *self._skipped.values(), self._emitted]
        return np.concatenate([np.asarray(head, np.int64), waiting.ravel()])

    def _read_again(self, source: int, position: int) -> Sample:
        sample = self._read(source, position)
        if isinstance(sample, str):
            name = self._config.sources[source].name
            raise ValueError(
                f"config.data.sources.{name}: a sample that waited when the state was saved is now"
                f" refused ({sample}): its shard is damaged, or config.data.seq_len, image_slots,"
                " num_queries or tokenizer have changed"
            )
        return sample

    def _read(self, source: int, position: int) -> Sample | str:
        records, config = self._sources[source], self._config
        place = position * config.virtual_shards + self._index
        name = config.sources[source].name
        index = record_at(place, records=len(records), seed=config.seed, name=name)
        try:
            data = records[index]
        except Exception:  # damaged bytes: ArrayRecord raises whatever its checksum finds
            return "unreadable_record"
        return make_sample(data, config, self._tokenizer)

    def _fill(self) -> None:
        refused = 0
        while len(self._waiting) < self._config.look_ahead:
            source = next_source(self._taken, self._weights)
            position = self._taken[source]
            self._taken[source] += 1
            sample = self._read(source, position)
            if isinstance(sample, Sample):
                self._waiting.append((source, position, sample))
                refused = 0
            else:
                self._skipped[sample] += 1
                refused += 1
                if refused == GIVE_UP:
                    counts = {reason: n for reason, n in self._skipped.items() if n}
                    raise ValueError(
                        f"config.data.sources: {GIVE_UP} records in a row were refused: {counts}"
                    )

    def row(self) -> Batch:
        """The next row: the fields of Batch without the batch dim."""
        self._fill()
        config = self._config
        chosen = pack(
            [len(sample.tokens) for _, _, sample in self._waiting],
            [len(sample.images) for _, _, sample in self._waiting],
            row_length=config.seq_len,
            slots=config.image_slots,
        )
        row = build_row([(self._waiting[i][0], self._waiting[i][2]) for i in chosen], config)
        taken = set(chosen)
        self._waiting = [entry for i, entry in enumerate(self._waiting) if i not in taken]
        self._emitted += len(chosen)
        return row


def split_state(state: Int64[np.ndarray, " S"], config: StreamConfig):
    """(taken per source, skipped per reason, emitted, waiting (look_ahead, 2)) of a state vector.

    Raises:
      ValueError: the vector's length is not what the config's geometry gives.
    """
    sources, reasons = len(config.sources), len(REASONS)
    expected = 1 + sources + reasons + 1 + 2 * config.look_ahead
    if len(state) != expected:
        raise ValueError(
            f"the saved data state has {len(state)} numbers a shard, this config's has {expected}:"
            " config.data.sources or config.data.look_ahead have changed"
        )
    taken, skipped, emitted, waiting = np.split(state[1:], np.cumsum([sources, reasons, 1]))
    return taken, skipped, emitted[0], waiting.reshape(-1, 2)


def build_row(samples: Sequence[tuple[int, Sample]], config: StreamConfig) -> Batch:
    """Lay (source, sample) pairs one after the other into a row; the rest is padding."""
    T, R = config.seq_len, config.image_size
    tokens, segments, positions, sources = (np.zeros(T, np.int32) for _ in range(4))
    targets = np.full(T, IGNORE, np.int32)
    images = np.zeros((config.image_slots, R, R, 3), np.uint8)
    image_mask = np.zeros(config.image_slots, bool)
    start = slot = 0
    for number, (source, sample) in enumerate(samples, 1):
        here = slice(start, start + len(sample.tokens))
        tokens[here], targets[here] = sample.tokens, sample.targets
        segments[here], sources[here] = number, source
        positions[here] = np.arange(len(sample.tokens))
        for image in sample.images:
            images[slot], image_mask[slot] = image, True
            slot += 1
        start = here.stop
    return Batch(tokens, targets, segments, positions, sources, images, image_mask)
