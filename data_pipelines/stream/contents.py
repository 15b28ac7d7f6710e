"""What is in a global batch, sample by sample, with the records that the samples came from."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from data_pipelines.schema import Record, unpack
from data_pipelines.stream.config import StreamConfig
from data_pipelines.stream.shard import VirtualShard
from data_pipelines.stream.source import ShardedSource
from data_pipelines.stream.state import check_state, first_state
from qwenvl_jax.text.tokenizer import load_tokenizer


class Packed(NamedTuple):
    """A sample of a batch."""

    row: int  # of the global batch
    segment: int  # within the row, from 1
    source: str
    index: int  # of the record in its source
    record: Record
    tokens: Int32[np.ndarray, " n"]
    targets: Int32[np.ndarray, " n"]
    images: tuple[UInt8[np.ndarray, "R R 3"], ...]


class Contents:
    """The samples of successive global batches, in order of rows.

    Args:
      state: (V, S) int64, the stream's state before the first of them; None: the beginning.

    Raises:
      ValueError: as for `stream.Stream`.
    """

    def __init__(
        self,
        config: StreamConfig,
        *,
        state: Int64[np.ndarray, "V S"] | None = None,
    ):
        self._config = config
        self._sources = [ShardedSource(source.path) for source in config.sources]
        states: Sequence[np.ndarray]
        if state is None:
            states = [first_state(config, self._sources)] * config.virtual_shards
        else:
            states = list(np.asarray(state))
            for one in states:
                check_state(one, config, self._sources)
        tokenizer = load_tokenizer(config.tokenizer or None)
        self._shards = [
            VirtualShard(config, number, self._sources, tokenizer, one)
            for number, one in enumerate(states)
        ]

    def skip(self) -> None:
        """Leave out a batch."""
        for shard in self._shards:
            for _ in range(self._rows):
                shard.row()

    def batch(self) -> Iterator[Packed]:
        """The samples of the next batch."""
        for number, shard in enumerate(self._shards):
            for place in range(self._rows):
                shard.row()
                for segment, (source, position, sample) in enumerate(shard.packed, 1):
                    index = shard.index(source, position)
                    yield Packed(
                        number * self._rows + place,
                        segment,
                        self._config.sources[source].name,
                        index,
                        unpack(self._sources[source][index]),
                        *sample,
                    )

    @property
    def _rows(self) -> int:
        """Of a batch, by virtual shard."""
        return self._config.global_rows // self._config.virtual_shards
