"""What de-duplication knows of a record: a row of keys, in tables of a shard each."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Integer, Shaped, UInt8, UInt16, UInt64

from data_pipelines.build.hashes import BANDS
from data_pipelines.build.shards import save_whole

KEYS = np.dtype(
    [
        ("name", "V16"), ("image", "V16"), ("text", "V16"), ("bands", "<u2", (BANDS,)),
        ("seen", "?"), ("source", "<u2"), ("language", "u1"),
    ]
)  # fmt: skip
EVALUATION = 65_535  # the source of pictures that no record may show
LANGUAGES = ("", "en", "zh")  # a row's `language` is a place here; evaluation pictures have none
_TABLES = "tables.json"


class Rows(NamedTuple):
    """Some records: their numbers over all tables, ascending, and what is asked about them."""

    rows_N: Integer[np.ndarray, "N"]
    words_NW: UInt64[np.ndarray, "N W"]  # the key, eight bytes a word
    sources_N: UInt16[np.ndarray, "N"]
    languages_N: UInt8[np.ndarray, "N"]

    def take(self, chosen: Shaped[np.ndarray, "M"] | slice) -> "Rows":
        return Rows(*(column[chosen] for column in self))

    def by_language(self, *, across: bool) -> list["Rows"]:
        """The records among which an image is one image: of a language, or of all.

        Evaluation pictures are among each.
        """
        if across:
            return [self]
        own = [language for language in np.unique(self.languages_N) if language]
        return [self.take(np.isin(self.languages_N, (0, language))) for language in own] or [self]


def write_listing(tables: list[Path], work: Path) -> int:
    """Note the tables (relative to `work`) and their sizes; returns the number of all rows."""
    rows = [len(np.load(work / table, mmap_mode="r")) for table in tables]
    listing = json.dumps([[str(table), count] for table, count in zip(tables, rows)])
    save_whole(work / _TABLES, listing.encode())
    return sum(rows)


def read_tables(
    work: Path, chosen: tuple[int, int] | None = None
) -> Iterator[tuple[int, Shaped[np.ndarray, "N"]]]:
    """(number of its first row, keys mapped from the file) of every table, or of some by place."""
    start = 0
    for place, (name, count) in enumerate(json.loads((work / _TABLES).read_bytes())):
        if chosen is None or chosen[0] <= place < chosen[1]:
            yield start, np.load(work / name, mmap_mode="r")
        start += count


def cut_tables(work: Path, rows_at_once: int) -> list[tuple[int, int]]:
    """Ranges of tables of about `rows_at_once` rows each."""
    counts = [count for _, count in json.loads((work / _TABLES).read_bytes())]
    places = np.cumsum([0, *counts[:-1]]) // max(1, rows_at_once) if counts else np.zeros(0, int)
    edges = [0, *(np.flatnonzero(np.diff(places)) + 1).tolist(), len(counts)]
    return [(first, last) for first, last in zip(edges, edges[1:]) if first < last]


def words(keys: Shaped[np.ndarray, "N"], field: str) -> UInt64[np.ndarray, "N W"]:
    """A field of keys as words of eight bytes."""
    width = KEYS[field].itemsize // 8
    return np.ascontiguousarray(keys[field]).view("<u8").reshape(len(keys), width)


def select(
    keys: Shaped[np.ndarray, "N"], field: str, mine: Bool[np.ndarray, "N"], start: int
) -> Rows:
    """The chosen rows of a table whose first row has the number `start`."""
    chosen = np.flatnonzero(mine)
    few = keys[chosen]
    return Rows(start + chosen, words(few, field), few["source"], few["language"])


def join(parts: list[Rows], field: str) -> Rows:
    if not parts:
        width = KEYS[field].itemsize // 8
        return Rows(
            np.zeros(0, np.int64), np.zeros((0, width), np.uint64), np.zeros(0, np.uint16),
            np.zeros(0, np.uint8),
        )  # fmt: skip
    return Rows(*(np.concatenate(columns) for columns in zip(*parts)))
