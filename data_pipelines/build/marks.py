"""Verdicts of de-duplication: their rules, and the files in which parts of a round leave them."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Integer, Shaped, UInt8

# A record's verdict is the place of its rule here, 0 where it stays; of several the least holds.
RULES = (
    None, "duplicate_key", "evaluation_image", "same_image", "same_image_other_source",
    "evaluation_image_near", "near_image", "near_image_other_source", "same_text",
)  # fmt: skip


def code(rule: str) -> int:
    return RULES.index(rule)


def save_marks(path: Path, found: Sequence[Integer[np.ndarray, "2 _"]]) -> None:
    """Write what a part of a round drops: row numbers over verdicts, each row once."""
    rows, codes = np.concatenate([np.zeros((2, 0), np.int64), *found], axis=1)
    order = np.lexsort((codes, rows))  # a row that was found several times keeps its least verdict
    rows, codes = rows[order], codes[order]
    once = np.flatnonzero(np.diff(rows, prepend=-1))
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.save(file, np.stack([rows[once], codes[once]]), allow_pickle=False)
    os.replace(partial, path)


def merge_marks(decided: UInt8[np.ndarray, "N"], marks: Sequence[Path], path: Path) -> None:
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


def value_ranges(load_V: Float64[np.ndarray, "V"]) -> list[tuple[int, int]]:
    """Ranges of values whose loads add up to less than one, beside the last value's own."""
    places = np.floor(np.cumsum(load_V) - load_V)
    edges = [0, *(np.flatnonzero(np.diff(places)) + 1).tolist(), len(load_V)]
    return [(a, b) for a, b in zip(edges, edges[1:]) if load_V[a:b].any()]


def array_bytes(array: Shaped[np.ndarray, "..."]) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()
