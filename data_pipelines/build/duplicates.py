"""Which records are duplicates, decided over the keys of all shards without holding them together.

Records are numbered in the order of sources, shards and records, and an earlier one stays. Four
rounds follow one another, each over what the rounds before left:

name    the first record of a source under a name stays
image   the first record with a picture's bytes stays; evaluation pictures stand before all
near    a record goes whose picture lies within `near_bits` of an earlier one's
text    the first `text_copies` records with a text stay

A round is cut into parts by the value of its key, so equal keys meet in one part and a part fits
into memory. Near pictures meet by bands: two hashes of 256 bits that differ in at most 15 share one
of their 16 bands whole. The outcome depends neither on the number of parts nor on who did them.
"""

import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8, UInt16, UInt64

from data_pipelines.build.engine import Engine
from data_pipelines.build.hashes import BANDS
from data_pipelines.build.settings import DuplicateSettings
from data_pipelines.build.shards import save_whole

KEYS = np.dtype(
    [
        ("name", "V16"), ("image", "V16"), ("text", "V16"), ("bands", "<u2", (BANDS,)),
        ("seen", "?"), ("source", "<u2"),
    ]
)  # fmt: skip
EVALUATION = 65_535  # the source of pictures that no record may show
# A record's verdict is the place of its rule here, 0 where it stays; of several the least holds.
RULES = (
    None, "duplicate_key", "evaluation_image", "same_image", "same_image_other_source",
    "evaluation_image_near", "near_image", "near_image_other_source", "same_text",
)  # fmt: skip
_ROUNDS = ("name", "image", "near", "text")
_TABLES = "tables.json"
_LARGE = 64  # records of one band value that are worth a loop of their own


class PartTask(NamedTuple):
    """One part of a round, small enough to ship to any worker."""

    round: str
    bands: tuple[int, ...]  # of the round `near`
    part: int
    parts: int
    settings: DuplicateSettings
    work: str

    @property
    def path(self) -> Path:
        band = f"-band{self.bands[0]}" if self.bands else ""
        return Path(self.work, f"marks-{self.round}{band}-{self.part}.npy")


def decide(
    tables: Sequence[Path], *, settings: DuplicateSettings, work: Path, engine: Engine
) -> UInt8[np.ndarray, "N"]:
    """The verdicts of all rows, in the order of the tables, mapped from a file.

    Args:
      tables: files of KEYS, in order of preference; relative to `work`.
      work: folder for what is not finished; what stands there is not done again.
    """
    rows = [len(np.load(work / table, mmap_mode="r")) for table in tables]
    listing = json.dumps([[str(table), count] for table, count in zip(tables, rows)])
    save_whole(work / _TABLES, listing.encode())
    parts = max(1, -(-sum(rows) // settings.rows_at_once))
    decided = np.zeros(sum(rows), np.uint8)
    for name in _ROUNDS:
        path = _decided(work, name)
        if not path.exists():
            # A small run takes all bands at once, a large one each by itself.
            bands = [tuple(range(BANDS))] if parts == 1 else [(b,) for b in range(BANDS)]
            kinds = bands if name == "near" else [()]
            tasks = [
                PartTask(name, b, part, parts, settings, str(work))
                for b, part in itertools.product(kinds, range(parts))
            ]
            engine(mark, tasks)
            _merge(decided, [task.path for task in tasks], path)
        decided = np.load(path, mmap_mode="r")
    return decided


def mark(task: PartTask) -> None:
    """Write what this part's round drops: row numbers over verdicts, each row once."""
    if task.path.exists():
        return
    if task.round == "near":
        found = [_near(task, band) for band in task.bands]
    else:
        found = [_equal(task)]
    rows, codes = np.concatenate(found, axis=1)
    order = np.lexsort((codes, rows))  # a row that several bands found keeps its least verdict
    rows, codes = rows[order], codes[order]
    once = np.flatnonzero(np.diff(rows, prepend=-1))
    with task.path.with_name(task.path.name + ".partial").open("wb") as file:
        np.save(file, np.stack([rows[once], codes[once]]), allow_pickle=False)
    os.replace(file.name, task.path)


def _equal(task: PartTask) -> Integer[np.ndarray, "2 M"]:
    """The rows whose key stood before often enough."""
    limit = task.settings.text_copies if task.round == "text" else 1
    rows_N, words_NW, sources_N = _gather(task, task.round)
    if not limit:  # any number
        return np.zeros((2, 0), np.int64)
    columns = [words_NW[:, 1], words_NW[:, 0]] + [sources_N] * (task.round == "name")
    order = np.lexsort(columns)  # stable: equal keys stay in the order of their rows
    new_N = np.ones(len(order), bool)
    new_N[1:] = np.any([np.diff(column[order]) != 0 for column in columns], axis=0)
    starts = np.flatnonzero(new_N)
    group_N = np.cumsum(new_N) - 1
    gone = np.flatnonzero(np.arange(len(order)) - starts[group_N] >= limit)
    own, first = sources_N[order][gone], sources_N[order][starts[group_N[gone]]]
    if task.round == "image":
        same = np.where(first == own, _code("same_image"), _code("same_image_other_source"))
        codes = np.where(first == EVALUATION, _code("evaluation_image"), same)
    else:
        rule = {"name": "duplicate_key", "text": "same_text"}[task.round]
        codes = np.full(len(gone), _code(rule))
    return np.stack([rows_N[order][gone], codes])


def _near(task: PartTask, band: int) -> Integer[np.ndarray, "2 M"]:
    """The rows that lie near an earlier one with the same value of this band."""
    rows_N, words_NW, sources_N = _gather(task, "bands", band)
    values_N = words_NW.view("<u2")[:, band]
    order = np.argsort(values_N, kind="stable")
    rows_N, words_NW, sources_N = rows_N[order], words_NW[order], sources_N[order]
    values_N = values_N[order]
    nearest = np.zeros(len(order), np.uint8)
    for earlier, lag in _candidates(values_N, words_NW[:, 0].copy(), task.settings.near_bits):
        differ = np.bitwise_count(words_NW[earlier] ^ words_NW[earlier + lag])
        earlier = earlier[differ.sum(1, dtype=np.uint16) <= task.settings.near_bits]
        own, first = sources_N[earlier + lag], sources_N[earlier]
        same = np.where(first == own, _code("near_image"), _code("near_image_other_source"))
        codes = np.where(first == EVALUATION, _code("evaluation_image_near"), same)
        known = nearest[earlier + lag]
        nearest[earlier + lag] = np.where(known == 0, codes, np.minimum(known, codes))
    gone = np.flatnonzero(nearest)
    return np.stack([rows_N[gone], nearest[gone].astype(np.int64)])


def _candidates(
    values_N: UInt16[np.ndarray, "N"], words_N: UInt64[np.ndarray, "N"], bits: int
) -> Iterator[tuple[Integer[np.ndarray, "M"], int]]:
    """Places i, and a lag, such that i and i + lag have one value and differ little in their first
    64 bits. Values come sorted.
    """
    starts = np.flatnonzero(np.diff(values_N.astype(np.int32), prepend=-1))
    sizes = np.diff(starts, append=len(values_N))
    for start, size in zip(starts[sizes > _LARGE], sizes[sizes > _LARGE]):
        words = words_N[start : start + size]
        for lag in range(1, size):  # neighbouring memory, no index: six times as fast
            near = np.flatnonzero(np.bitwise_count(words[lag:] ^ words[:-lag]) <= bits)
            if len(near):
                yield start + near, lag
    # All small groups at once: every row with the next of its value, then the next but one.
    earlier = np.flatnonzero(np.repeat(sizes <= _LARGE, sizes))
    for lag in range(1, _LARGE):
        earlier = earlier[earlier + lag < len(values_N)]
        earlier = earlier[values_N[earlier] == values_N[earlier + lag]]
        near = np.bitwise_count(words_N[earlier] ^ words_N[earlier + lag]) <= bits
        yield earlier[near], lag


def _gather(
    task: PartTask, field: str, band: int | None = None
) -> tuple[Integer[np.ndarray, "N"], UInt64[np.ndarray, "N W"], UInt16[np.ndarray, "N"]]:
    """Numbers, keys and sources of this part's rows that no round before has dropped."""
    before = _ROUNDS.index(task.round) - 1
    decided = np.load(_decided(task.work, _ROUNDS[before]), mmap_mode="r") if before >= 0 else None
    rows, words, sources, start = [], [], [], 0
    width = KEYS[field].itemsize // 8
    for name, count in json.loads(Path(task.work, _TABLES).read_bytes()):
        keys = np.load(Path(task.work, name), mmap_mode="r")
        value_NW = np.ascontiguousarray(keys[field]).view("<u8").reshape(count, width)
        place_N = value_NW[:, 0] if band is None else keys["bands"][:, band]
        mine = place_N % task.parts == task.part
        if decided is not None:
            mine &= decided[start : start + count] == 0
        if band is not None:
            mine &= keys["seen"]
        elif field != "image":  # evaluation pictures have no name and no text
            mine &= keys["source"] != EVALUATION
        rows.append(start + np.flatnonzero(mine))
        words.append(value_NW[mine])
        sources.append(keys["source"][mine])
        start += count
    return np.concatenate(rows), np.concatenate(words), np.concatenate(sources)


def _merge(decided: UInt8[np.ndarray, "N"], marks: Sequence[Path], path: Path) -> None:
    """The verdicts so far and a round's marks as a new file."""
    partial = path.with_name(path.name + ".partial")
    merged = np.lib.format.open_memmap(partial, "w+", np.uint8, decided.shape)
    merged[:] = decided
    for file in marks:
        rows, codes = np.load(file, allow_pickle=False)
        known = merged[rows]
        merged[rows] = np.where(known == 0, codes, np.minimum(known, codes))
    merged.flush()
    os.replace(partial, path)


def _decided(work: str | Path, name: str) -> Path:
    return Path(work, f"decided-{name}.npy")


def _code(rule: str) -> int:
    return RULES.index(rule)
