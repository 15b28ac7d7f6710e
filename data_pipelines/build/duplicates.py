"""Which records are duplicates, decided over the keys of all shards without holding them together.

Records are numbered in the order of sources, shards and records, and an earlier one stays. Four
rounds follow one another, each over what the rounds before left:

name    the first record of a source under a name stays
image   the first record with a picture's bytes stays; evaluation pictures stand before all
near    a record goes whose picture lies within `near_bits` of an earlier one's
text    the first `text_copies` records with a text stay

A picture with an English and a Chinese caption is two pairs: pictures are compared within a
language, unless `across_languages`. A round is cut into parts by the value of its key, so equal
keys meet in one part and a part fits into memory; `near.py` does so for near pictures. The outcome
depends neither on the number of parts nor on who did them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from data_pipelines.build.engine import Engine
from data_pipelines.build.keys import (
    EVALUATION,
    KEYS,
    Rows,
    join,
    read_tables,
    select,
    words,
    write_listing,
)
from data_pipelines.build.marks import RULES, code, merge_marks, save_marks
from data_pipelines.build.near import near_round
from data_pipelines.build.settings import DuplicateSettings

__all__ = ["EVALUATION", "KEYS", "RULES", "decide"]
_ROUNDS = ("name", "image", "near", "text")


class PartTask(NamedTuple):
    """One part of a round of equal keys, small enough to ship to any worker."""

    round: str
    part: int
    parts: int
    settings: DuplicateSettings
    decided: str  # the verdicts of the rounds before
    work: str

    @property
    def path(self) -> Path:
        return Path(self.work, f"marks-{self.round}-{self.part}.npy")


def decide(
    tables: Sequence[Path], *, settings: DuplicateSettings, work: Path, engine: Engine
) -> UInt8[np.ndarray, "N"]:
    """The verdicts of all rows, in the order of the tables, mapped from a file.

    Args:
      tables: files of KEYS, in order of preference; relative to `work`.
      work: folder for what is not finished; what stands there is not done again.
    """
    count = write_listing(list(tables), work)
    parts = max(1, -(-count // settings.rows_at_once))
    before = work / "decided-none.npy"
    if not before.exists():
        merge_marks(np.zeros(count, np.uint8), [], before)
    for name in _ROUNDS:
        path = work / f"decided-{name}.npy"
        if not path.exists():
            if name == "near":
                marks = near_round(settings=settings, decided=before, work=work, engine=engine)
            else:
                tasks = [
                    PartTask(name, part, parts, settings, str(before), str(work))
                    for part in range(parts)
                ]
                engine(mark, tasks)
                marks = [task.path for task in tasks]
            merge_marks(np.load(before, mmap_mode="r"), marks, path)
        before = path
    return np.load(before, mmap_mode="r")


def mark(task: PartTask) -> None:
    """Write which rows the part drops, as their key stood before often enough."""
    if task.path.exists():
        return
    groups = [_gather(task)]
    if task.round == "image":
        groups = groups[0].by_language(across=task.settings.across_languages)
    save_marks(task.path, [_equal(group, task) for group in groups])


def _equal(group: Rows, task: PartTask) -> Integer[np.ndarray, "2 M"]:
    limit = task.settings.text_copies if task.round == "text" else 1
    if not limit:  # any number
        return np.zeros((2, 0), np.int64)
    columns = [group.words_NW[:, 1], group.words_NW[:, 0]]
    columns += [group.sources_N] * (task.round == "name")
    order = np.lexsort(columns)  # stable: equal keys stay in the order of their rows
    new_N = np.ones(len(order), bool)
    new_N[1:] = np.any([np.diff(column[order]) != 0 for column in columns], axis=0)
    starts = np.flatnonzero(new_N)
    group_N = np.cumsum(new_N) - 1
    gone = np.flatnonzero(np.arange(len(order)) - starts[group_N] >= limit)
    own, first = group.sources_N[order][gone], group.sources_N[order][starts[group_N[gone]]]
    if task.round == "image":
        same = np.where(first == own, code("same_image"), code("same_image_other_source"))
        codes = np.where(first == EVALUATION, code("evaluation_image"), same)
    else:
        rule = {"name": "duplicate_key", "text": "same_text"}[task.round]
        codes = np.full(len(gone), code(rule))
    return np.stack([group.rows_N[order][gone], codes])


def _gather(task: PartTask) -> Rows:
    """This part's rows that no round before has dropped."""
    decided = np.load(task.decided, mmap_mode="r")
    found = []
    for start, keys in read_tables(Path(task.work)):
        mine = words(keys, task.round)[:, 0] % task.parts == task.part
        mine &= decided[start : start + len(keys)] == 0
        if task.round != "image":  # evaluation pictures have no name and no text
            mine &= keys["source"] != EVALUATION
        found.append(select(keys, task.round, mine, start))
    return join(found, task.round)
