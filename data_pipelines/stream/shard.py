"""A virtual shard: its own order, mix, packing and state, as if it were alone in the world.

Its p-th read of a source is record p x V + v of the source's endless order. Samples that wait for a
row are saved as positions (see `state.py`), and read and decoded again on restore.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from jaxtyping import Int64

from data_pipelines.schema import unpack
from data_pipelines.stream.config import StreamConfig
from data_pipelines.stream.mixture import Mixture
from data_pipelines.stream.order import record_at
from data_pipelines.stream.pack import pack
from data_pipelines.stream.readers import Damaged
from data_pipelines.stream.refusals import Refusals
from data_pipelines.stream.sample import REASONS, Sample, Text, add_images, make_text
from data_pipelines.stream.source import ShardedSource
from data_pipelines.stream.state import fingerprint, split_state
from qwenvl_jax.batch import IGNORE, Batch, most_segments
from qwenvl_jax.text.tokenizer import Tokenizer

# Records refused in a row, after which the settings or the data must be wrong.
GIVE_UP = 10_000


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
        parts = split_state(state, config)
        self._fingerprint, self._emitted = parts.fingerprint, parts.emitted
        self._first, self._rows = parts.step, 0
        self._taken, self._accepted, self._before = parts.taken, parts.accepted, parts.before
        self._refusals = [
            Refusals(source.name, config.max_refused, partial(self._about, number))
            for number, source in enumerate(config.sources)
        ]
        self._weights = config.weights_at(max(parts.step - 1, 0))
        self._mixture = self._mix()
        self._free = 0  # image slots of the group that the next row belongs to
        self.packed: list[tuple[int, int, Sample]] = []  # source, position, sample of a row
        self._skipped = dict(zip(REASONS, parts.skipped, strict=True))
        self._waiting = [
            (source, position, self._read_again(source, position))
            for source, position in parts.waiting
        ]

    def state(self) -> Int64[np.ndarray, " S"]:
        waiting = np.full((self._config.look_ahead, 2), -1, np.int64)
        for place, (source, position, _) in enumerate(self._waiting):
            waiting[place] = source, position
        sources = [*self._taken, *self._accepted, *self._before]
        head = [self._fingerprint, self._step(), *sources, *self._skipped.values(), self._emitted]
        return np.concatenate([np.asarray(head, np.int64), waiting.ravel()])

    def _step(self) -> int:
        """The batch that the next row belongs to."""
        return self._first + self._rows * self._config.virtual_shards // self._config.global_rows

    def _mix(self) -> Mixture:
        shards = self._config.virtual_shards
        return Mixture(self._weights, shard=self._index, shards=shards)

    def _follow_weights(self) -> None:
        weights = self._config.weights_at(self._step())
        if weights != self._weights:
            self._weights, self._before = weights, list(self._accepted)
            self._mixture = self._mix()
            # The batch under way has seen the change, so a state after it depends on it.
            self._fingerprint = fingerprint(self._config, self._sources, self._step() + 1)

    def _read_again(self, source: int, position: int) -> Sample:
        text = self._read(source, position)
        sample = text if isinstance(text, str) else add_images(text, self._config)
        if isinstance(sample, str):
            name = self._config.sources[source].name
            raise ValueError(
                f"config.data.sources.{name}: a sample that waited when the state was saved is now"
                f" refused ({sample}): its shard is damaged, or config.data.seq_len, image_slots,"
                " num_queries or tokenizer have changed"
            )
        return sample

    def index(self, source: int, position: int) -> int:
        """The record of a source that its read at `position` gives."""
        config, records = self._config, len(self._sources[source])
        place = position * config.virtual_shards + self._index
        return record_at(place, records=records, seed=config.seed, name=config.sources[source].name)

    def _read(self, source: int, position: int) -> Text | str:
        records, config = self._sources[source], self._config
        index = self.index(source, position)
        try:
            data = records[index]
        except Damaged:
            return "unreadable_record"
        return make_text(data, config, self._tokenizer)

    def _fill(self) -> None:
        self._follow_weights()
        refused = 0
        while missing := self._config.look_ahead - len(self._waiting):
            # Texts first, then pictures: decoding one drives all else out of the processor's
            # caches, and taking turns would cost as much again as texts do.
            drawn = [self._draw() for _ in range(missing)]
            texts = [self._read(source, position) for source, position in drawn]
            for (source, position), text in zip(drawn, texts, strict=True):
                sample = text if isinstance(text, str) else add_images(text, self._config)
                taken = isinstance(sample, Sample)
                index = self.index(source, position)
                self._refusals[source].see("" if taken else sample, index)
                if taken:
                    self._waiting.append((source, position, sample))
                    refused = 0
                    continue
                # It does not count: the mixture gives the source's place to its next record.
                self._accepted[source] -= 1
                self._skipped[sample] += 1
                refused += 1
                if refused == GIVE_UP:
                    counts = {reason: n for reason, n in self._skipped.items() if n}
                    raise ValueError(
                        f"config.data.sources: {GIVE_UP} records in a row were refused: {counts}"
                    )

    def _about(self, source: int, index: int) -> str:
        """The key of a record, or what is wrong with the record."""
        try:
            return unpack(self._sources[source][index]).key
        except (Damaged, ValueError) as error:
            return f"record {index}: {error}"

    def _draw(self) -> tuple[int, int]:
        """The next source and the position in it."""
        since = [t - b for t, b in zip(self._accepted, self._before, strict=True)]
        source = self._mixture.next(since)
        self._taken[source] += 1
        self._accepted[source] += 1
        return source, self._taken[source] - 1

    def row(self) -> Batch:
        """The next row: the fields of Batch without the batch dim, images without empty slots."""
        self._fill()
        config = self._config
        group, place = divmod(self._rows, config.group_rows)
        if place == 0:
            self._free = config.group_slots[group % config.slot_turns]
        chosen = pack(
            [len(sample.tokens) for _, _, sample in self._waiting],
            [len(sample.images) for _, _, sample in self._waiting],
            row_length=config.seq_len,
            slots=self._free,
            rows=config.group_rows - place,
            most_samples=most_segments(config.seq_len) - 1,  # and padding
        )
        self._free -= sum(len(self._waiting[i][2].images) for i in chosen)
        self.packed = [self._waiting[i] for i in chosen]
        row = build_row([(source, sample) for source, _, sample in self.packed], config)
        taken = set(chosen)
        self._waiting = [entry for i, entry in enumerate(self._waiting) if i not in taken]
        self._emitted += len(chosen)
        self._rows += 1
        return row


def build_row(samples: Sequence[tuple[int, Sample]], config: StreamConfig) -> Batch:
    """Lay (source, sample) pairs one after the other into a row; the rest is padding."""
    T, R = config.seq_len, config.image_size
    pictures = [image for _, sample in samples for image in sample.images]
    images = np.stack(pictures) if pictures else np.zeros((0, R, R, 3), np.uint8)
    tokens, segments, positions, sources = (np.zeros(T, np.int32) for _ in range(4))
    targets = np.full(T, IGNORE, np.int32)
    start = 0
    for number, (source, sample) in enumerate(samples, 1):
        here = slice(start, start + len(sample.tokens))
        tokens[here], targets[here] = sample.tokens, sample.targets
        segments[here], sources[here] = number, source
        positions[here] = np.arange(len(sample.tokens))
        start = here.stop
    mask = np.ones(len(images), bool)
    return Batch(tokens, targets, segments, positions, sources, images, mask)
