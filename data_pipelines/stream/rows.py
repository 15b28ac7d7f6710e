"""Virtual shards as a Grain dataset of rows, round robin; a row carries its shard's state.

An exception that reaches Grain loses the rows around it, and comes out of a worker process as
another one: it travels as a Failure in a row's place.
"""

import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Int64

from data_pipelines.stream.config import StreamConfig
from data_pipelines.stream.readers import MachineFault
from data_pipelines.stream.shard import VirtualShard
from data_pipelines.stream.source import ShardedSource
from qwenvl_jax.batch import Batch
from qwenvl_jax.text.tokenizer import load_tokenizer


class Row(NamedTuple):
    fields: Batch  # without the batch dim, images without empty slots
    state: Int64[np.ndarray, " S"]  # of the row's virtual shard, after this row


class Failure(NamedTuple):
    """Why there will be no more rows."""

    text: str
    kind: type[Exception]  # to be raised: ValueError what a user can mend, MachineFault, or a bug


class Rows(grain.IterDataset):
    """Rows of some virtual shards: the first row of each, the second row of each, ..

    A Grain worker w of W takes shards w, w + W, ..: read round robin, the workers' rows come in the
    same order as without workers.
    """

    def __init__(
        self,
        config: StreamConfig,
        shards: Sequence[int],
        sources: Sequence[ShardedSource],
        states: Int64[np.ndarray, "L S"],
    ):
        super().__init__()
        self._config, self._shards = config, list(shards)
        self._sources, self._states = list(sources), states

    def set_slice(self, sl: slice, sequential_slice: bool = False) -> None:
        """Keep a part of the shards (called by Grain in a worker)."""
        assert not sequential_slice
        self._shards = self._shards[sl]
        self._states = self._states[sl]

    def __iter__(self) -> "RowIterator":
        return RowIterator(self._open)

    def _open(self) -> list[VirtualShard]:
        tokenizer = load_tokenizer(self._config.tokenizer or None)
        return [
            VirtualShard(self._config, shard, self._sources, tokenizer, state)
            for shard, state in zip(self._shards, self._states, strict=True)
        ]


class RowIterator(grain.DatasetIterator):
    """Endless. Its own Grain state is only a turn: what matters travels in the rows."""

    def __init__(self, open_shards: Callable[[], Sequence[VirtualShard]]):
        super().__init__()
        self._open, self._shards = open_shards, ()
        self._turn, self._failure = 0, None

    def __next__(self) -> Row | Failure:
        if self._failure is None:
            try:
                return self._row()
            except (ValueError, MachineFault) as error:
                kind = MachineFault if isinstance(error, MachineFault) else ValueError
                self._failure = Failure(str(error), kind)
            except Exception:
                self._failure = Failure(traceback.format_exc(), RuntimeError)
        return self._failure

    def _row(self) -> Row:
        self._shards = self._shards or self._open()
        shard = self._shards[self._turn % len(self._shards)]
        self._turn += 1
        return Row(shard.row(), shard.state())

    def get_state(self) -> dict:
        return {"turn": self._turn}

    def set_state(self, state: dict) -> None:
        if state["turn"] != self._turn:
            raise ValueError("restore a stream from the states of its rows, not from Grain's")
