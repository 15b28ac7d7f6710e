"""The stream of a host: global batch n is a function of (config, n) alone.

Virtual shard s fills rows s x G/V .. (s + 1) x G/V of every global batch of G rows; a host runs
whole shards, those whose rows its devices hold. Hosts may run the same ones. How many hosts, worker
processes and prefetched rows there are changes nothing.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import grain
import numpy as np
from jaxtyping import Int64

from data_pipelines.stream.config import StreamConfig
from data_pipelines.stream.readers import raise_file_limit
from data_pipelines.stream.rows import Failure, Row, Rows
from data_pipelines.stream.sample import REASONS
from data_pipelines.stream.shard_check import ShardCheck
from data_pipelines.stream.source import ShardedSource
from data_pipelines.stream.state import check_state, first_state, split_state
from data_pipelines.workers import start_reader
from qwenvl_jax.batch import Batch


class Stream:
    """Endless iterator of this host's rows of the global batches.

    Args:
      shards: the virtual shards of this host, ascending; None: all.
      state: (V, S) int64 of all shards: the largest of what the hosts' `state()` gave, entry by
      entry; None starts at the beginning.

    Raises:
      ValueError: a source that is missing or damaged, or settings or a state that do not fit
      together; from the first batch on, a saved sample that no longer reads, nothing but records
      that are refused, or another shard in place of one. What was raised once is raised at every
      further call.
    """

    def __init__(
        self,
        config: StreamConfig,
        *,
        shards: Sequence[int] | None = None,
        state: Int64[np.ndarray, "V S"] | None = None,
    ):
        V = config.virtual_shards
        shards = list(range(V) if shards is None else shards)
        assert shards == sorted(set(shards)) and 0 <= shards[0] <= shards[-1] < V, (shards, V)
        self._config, self._shards, self._local = config, shards, len(shards)
        if config.num_workers and self._local % config.num_workers:
            raise ValueError(
                f"config.data.num_workers={config.num_workers} does not divide the"
                f" {self._local} virtual shards of a host"
            )
        if state is not None and len(state) != V:
            raise ValueError(
                f"the saved data state has {len(state)} virtual shards,"
                f" config.data.virtual_shards={V}"
            )
        raise_file_limit()
        sources = [ShardedSource(source.path) for source in config.sources]
        self._sizes = [len(source) for source in sources]
        if state is None:
            self._states = np.stack([first_state(config, sources)] * self._local)
        else:
            self._states = np.asarray(state)[shards]
            for one in self._states:  # refused here, before the workers start
                check_state(one, config, sources)
        rows = Rows(config, shards, sources, self._states)
        if config.num_workers:
            options = grain.MultiprocessingOptions(config.num_workers, config.prefetch)
            # A segment of shared memory costs more than copying a row's text: only images get one.
            shared = grain.experimental.DatasetOptions(min_shm_size=2**16)
            rows = grain.experimental.WithOptionsIterDataset(
                rows.mp_prefetch(options, start_reader), shared
            )
        self._rows: Iterator[Row | Failure] = iter(rows)
        folders = [source.path for source in config.sources] if config.verify else []
        self._check = ShardCheck(folders, mine=shards, of=V)

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Batch:
        self._check.raise_wrong()
        per_shard = self._config.global_rows // self._config.virtual_shards
        grid = [[self._row() for _ in range(self._local)] for _ in range(per_shard)]
        self._states = np.stack([row.state for row in grid[-1]])
        ordered = [grid[j][s].fields for s in range(self._local) for j in range(per_shard)]
        return collate(ordered, rows=self._config.group_rows, slots=self._config.group_slots[0])

    def _row(self) -> Row:
        row = next(self._rows)
        if isinstance(row, Failure):
            raise row.kind(row.text)
        return row

    def state(self) -> Int64[np.ndarray, "V S"]:
        """Where this host's shards stand after the last batch; -1, below every entry of a state,
        for those of other hosts.
        """
        states = np.full((self._config.virtual_shards, self._states.shape[1]), -1, np.int64)
        states[self._shards] = self._states
        return states

    def metrics(self) -> dict[str, float]:
        """Of this host's shards: samples in rows so far, skipped records per reason (where there
        are any) and epochs per source.
        """
        parts = [split_state(state, self._config) for state in self._states]
        skipped = np.sum([part.skipped for part in parts], axis=0)
        taken = np.sum([part.taken for part in parts], axis=0) * self._config.virtual_shards
        metrics = {"samples_read": float(sum(part.emitted for part in parts))}
        metrics |= {
            f"skipped/{reason}": float(count)
            for reason, count in zip(REASONS, skipped, strict=True)
            if count
        }
        for source, count, size in zip(self._config.sources, taken, self._sizes, strict=True):
            metrics[f"epochs/{source.name}"] = float(count / self._local / size)
        return metrics

    def close(self) -> None:
        """End the worker processes and the comparison of shards."""
        self._check.close()
        close = getattr(self._rows, "close", None)
        if close is not None:
            close()


def collate(ordered: Sequence[Batch], *, rows: int, slots: int) -> Batch:
    """Rows to a batch: the images of each `rows` successive ones side by side in `slots` slots."""
    *text, images, _ = (list(field) for field in zip(*ordered, strict=True))
    groups = len(images) // rows
    pixels = np.zeros((groups, slots, *images[0].shape[1:]), np.uint8)
    mask = np.zeros((groups, slots), bool)
    for group in range(groups):
        slot = 0
        for row in images[group * rows : (group + 1) * rows]:
            here = slice(slot, slot + len(row))
            pixels[group, here], mask[group, here] = row, True
            slot = here.stop
    return Batch(*(np.stack(field) for field in text), pixels, mask)


def eval_batches(
    config: StreamConfig, *, num_batches: int, shards: Sequence[int] | None = None
) -> list[Batch]:
    """The rows of some shards (None: of all) of the first batches: the same at every call."""
    stream = Stream(dataclasses.replace(config, num_workers=0, verify=False), shards=shards)
    batches = [next(stream) for _ in range(num_batches)]
    stream.close()
    return batches
