"""The round of near pictures: which of two hashes of 256 bits differ in at most `near_bits`.

A hash is 16 bands of 16 bits. Hashes that differ in d bits share at least 16 - d bands whole, so
equal values of a band bring candidates together. Real pictures crowd (logos on white): a value that
too many records share is cut by a second band, then a third, while pairs must share so many:

    near_bits = 12: a pair shares 4 bands, a < b < c < d, and a <= 12, b <= 13, c <= 14, d <= 15

    band a = v, few records   -> compare all of them                       (NearTask)
    band a = v, a crowd       -> cut by every band b in a+1 .. 13
      bands a, b, few         -> compare                                   (NearTask)
      ...
      bands a, b, c, d, crowd -> tiles: rows i*S .. against rows j*S ..    (TileTask)

A cut must halve the pairs to compare, else the crowd becomes tiles at once: its pictures are alike.
So there are never more pairs than without cuts. A pair is found on the path of its first shared
bands, at the first value that is not cut further. So the outcome does not depend on what counts as
a crowd. No task compares more than twice `pairs_at_once` pairs.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt16

from data_pipelines.build.engine import Engine
from data_pipelines.build.hashes import BANDS
from data_pipelines.build.keys import EVALUATION, Rows, cut_tables, join, read_tables, select
from data_pipelines.build.marks import array_bytes, code, save_marks, value_ranges
from data_pipelines.build.near_pairs import near_earlier, near_of_two
from data_pipelines.build.settings import DuplicateSettings
from data_pipelines.build.shards import save_whole

_VALUES = 65_536
Cut = tuple[tuple[int, int], ...]  # bands, ascending, and the value that records have there


class CountTask(NamedTuple):
    """Count the values of the next bands within each cut, over some tables."""

    cuts: tuple[Cut, ...]
    tables: tuple[int, int]
    settings: DuplicateSettings
    decided: str
    work: str

    @property
    def path(self) -> Path:
        return Path(self.work, f"near-counts-{len(self.cuts[0])}-{self.tables[0]}.npy")


class NearTask(NamedTuple):
    """Compare the records of a cut that share a value of one more band."""

    cut: Cut
    band: int
    first: int  # values first to last - 1 of the band
    last: int
    crowds: tuple[int, ...]  # of these, values that are cut further and not compared here
    settings: DuplicateSettings
    decided: str
    work: str

    @property
    def path(self) -> Path:
        return Path(self.work, f"marks-near-{_name(self.cut)}band{self.band}-{self.first}.npy")


class TileTask(NamedTuple):
    """Compare two stretches of a crowd that no further band may cut."""

    cut: Cut
    earlier: int
    later: int
    side: int  # records of a stretch
    settings: DuplicateSettings
    decided: str
    work: str

    @property
    def crowd(self) -> Path:
        return Path(self.work, f"near-crowd-{_name(self.cut)}.npz")

    @property
    def path(self) -> Path:
        return Path(self.work, f"marks-near-{_name(self.cut)}tile-{self.earlier}-{self.later}.npy")


def near_round(
    *, settings: DuplicateSettings, decided: Path, work: Path, engine: Engine
) -> list[Path]:
    """Mark what the round drops; returns the files of marks.

    Args:
      decided: the verdicts of the rounds before, which drop records from this one.
    """
    shared = BANDS - settings.near_bits  # bands that every near pair shares
    side = max(2, math.isqrt(settings.pairs_at_once))
    common = (settings, str(decided), str(work))
    tasks: list[NearTask] = []
    tiles: list[TileTask] = []
    cuts: list[Cut] = [()]
    while cuts:
        level = len(cuts[0]) + 1
        deeper: list[Cut] = []
        for cut, counts_by_band in _count(cuts, settings, decided, work, engine):
            held = int(next(iter(counts_by_band.values())).sum())
            if level > 1 and 2 * sum(map(_pairs, counts_by_band.values())) > _pairs(held):
                tiles += _tiles(cut, held, side, common)  # pictures alike: bands do not part them
                continue
            for band, counts in counts_by_band.items():
                each = counts * (counts - 1) // 2
                crowds = np.flatnonzero(each > settings.pairs_at_once).tolist()
                if level == 1:
                    _say_sizes(band, counts, len(crowds), work)
                for value in crowds:
                    inner = (*cut, (band, value))
                    if level < shared:
                        deeper.append(inner)
                    else:
                        tiles += _tiles(inner, int(counts[value]), side, common)
                counts[crowds], each[crowds] = 0, 0
                load = counts / settings.rows_at_once + each / settings.pairs_at_once
                tasks += [
                    NearTask(cut, band, a, b, tuple(v for v in crowds if a <= v < b), *common)
                    for a, b in value_ranges(np.where(each > 0, load, 0.0))
                ]
        cuts = deeper
    engine(mark, tasks)
    engine(collect, [tile for tile in tiles if (tile.earlier, tile.later) == (0, 0)])
    engine(mark_tile, tiles)
    return [task.path for task in (*tasks, *tiles)]


def count(task: CountTask) -> None:
    """Write (place of the cut, band, value, records) in four columns."""
    if task.path.exists():
        return
    found = []
    totals = {}
    for _, keys, mine in _open_rows(Path(task.work), Path(task.decided), task.tables):
        bands_NB = keys["bands"]
        for place, cut in enumerate(task.cuts):
            chosen = bands_NB[mine & _inside(bands_NB, cut)]
            for band in _next_bands(cut, task.settings):
                counts = np.bincount(chosen[:, band], minlength=_VALUES)
                totals[place, band] = totals.get((place, band), 0) + counts
    for (place, band), counts in totals.items():
        values = np.flatnonzero(counts)
        ones = np.ones(len(values), np.int64)
        found.append(np.stack([place * ones, band * ones, values, counts[values]], axis=1))
    table = np.concatenate([np.zeros((0, 4), np.int64), *found])
    save_whole(task.path, array_bytes(table))


def mark(task: NearTask) -> None:
    """Write which records lie near an earlier one within the task's cut and band."""
    if task.path.exists():
        return
    crowds = np.array(task.crowds, np.uint16)
    parts = []
    for start, keys, mine in _open_rows(Path(task.work), Path(task.decided)):
        values_N = keys["bands"][:, task.band]
        mine &= _inside(keys["bands"], task.cut) & (task.first <= values_N) & (values_N < task.last)
        if len(crowds):
            mine &= ~np.isin(values_N, crowds)
        parts.append(select(keys, "bands", mine, start))
    groups = join(parts, "bands").by_language(across=task.settings.across_languages)
    save_marks(
        task.path, [near_earlier(group, task.band, task.settings.near_bits) for group in groups]
    )


def collect(task: TileTask) -> None:
    """Write the records of a crowd to a file that its tiles read.

    Of records of one source with one hash only the first is compared: the others lie near it. Where
    evaluation pictures are in the crowd all are kept, as their verdict may be another.
    """
    if task.crowd.exists():
        return
    parts = []
    for start, keys, mine in _open_rows(Path(task.work), Path(task.decided)):
        parts.append(select(keys, "bands", mine & _inside(keys["bands"], task.cut), start))
    rows, same = join(parts, "bands"), np.zeros(0, np.int64)
    if EVALUATION not in rows.sources_N:
        columns = (*rows.words_NW.T, rows.sources_N, rows.languages_N)
        order = np.lexsort(columns)  # stable: the first record of a hash stays the first
        differs = [np.diff(column[order].astype(np.uint64)) != 0 for column in columns]
        first_N = np.r_[True, np.any(differs, axis=0)]
        same = np.sort(order[~first_N[: len(order)]])
        rows, same = rows.take(np.sort(order[first_N[: len(order)]])), rows.rows_N[same]
    partial = task.crowd.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, same=same, **rows._asdict())
    partial.replace(task.crowd)


def mark_tile(task: TileTask) -> None:
    """Write which records of the later stretch lie near one of the earlier stretch."""
    if task.path.exists():
        return
    with np.load(task.crowd, allow_pickle=False) as crowd:
        rows, same = Rows(*(crowd[name] for name in Rows._fields)), crowd["same"]
    stretches = [
        rows.take(slice(place * task.side, (place + 1) * task.side))
        for place in (task.earlier, task.later)
    ]
    bits, across = task.settings.near_bits, task.settings.across_languages
    found = []
    if task.earlier == task.later:
        band = task.cut[-1][0]
        found = [
            near_earlier(group, band, bits) for group in stretches[1].by_language(across=across)
        ]
    elif len(stretches[1].rows_N):
        together = join(stretches, "bands")
        for group in together.by_language(across=across):
            border = int(np.searchsorted(group.rows_N, stretches[1].rows_N[0]))
            found.append(
                near_of_two(group.take(slice(border)), group.take(slice(border, None)), bits)
            )
    if (task.earlier, task.later) == (0, 0):
        found.append(np.stack([same, np.full(len(same), code("near_image"))]))
    save_marks(task.path, found)


def _next_bands(cut: Cut, settings: DuplicateSettings) -> range:
    """Where a near pair that shares the cut's bands, and none before or between, has its next."""
    return range(cut[-1][0] + 1 if cut else 0, settings.near_bits + len(cut) + 1)


def _pairs(counts: Int64[np.ndarray, "V"] | int) -> int:
    return int(np.sum(counts * (counts - 1) // 2))


def _tiles(cut: Cut, held: int, side: int, common: tuple) -> list[TileTask]:
    stretches = range(-(-held // side))
    return [TileTask(cut, i, j, side, *common) for j in stretches for i in range(j + 1)]


def _count(
    cuts: list[Cut], settings: DuplicateSettings, decided: Path, work: Path, engine: Engine
) -> Iterator[tuple[Cut, dict[int, Int64[np.ndarray, "65536"]]]]:
    """(cut, next band -> records of each of its values)."""
    tasks = [
        CountTask(tuple(cuts), tables, settings, str(decided), str(work))
        for tables in cut_tables(work, settings.rows_at_once)
    ]
    engine(count, tasks)
    tables = [np.load(task.path, allow_pickle=False) for task in tasks]
    table = np.concatenate([np.zeros((0, 4), np.int64), *tables])
    for place, cut in enumerate(cuts):
        of_cut = table[table[:, 0] == place]
        found = {}
        for band in _next_bands(cut, settings):
            own = of_cut[of_cut[:, 1] == band]
            found[band] = np.zeros(_VALUES, np.int64)
            np.add.at(found[band], own[:, 2], own[:, 3])
        yield cut, found


def _open_rows(work: Path, decided: Path, tables: tuple[int, int] | None = None) -> Iterator[tuple]:
    """(first row, keys, which rows have a hash and came through the rounds before) of tables."""
    verdicts = np.load(decided, mmap_mode="r")
    for start, keys in read_tables(work, tables):
        yield start, keys, (verdicts[start : start + len(keys)] == 0) & keys["seen"]


def _inside(bands_NB: UInt16[np.ndarray, "N B"], cut: Cut) -> Bool[np.ndarray, "N"]:
    inside = np.ones(len(bands_NB), bool)
    for band, value in cut:
        inside &= bands_NB[:, band] == value
    return inside


def _say_sizes(band: int, counts: Int64[np.ndarray, "65536"], crowds: int, work: Path) -> None:
    total, largest = int(counts.sum()), int(counts.max())
    if crowds:
        print(
            f"near pictures, band {band}: {total:,} hashes, the largest group of one value"
            f" {largest:,}, {crowds} groups are cut by further bands",
            flush=True,
        )
    save_whole(
        work / f"near-sizes-band{band}.json",
        json.dumps(dict(hashes=total, largest=largest, crowds=crowds)).encode(),
    )


def _name(cut: Cut) -> str:
    return "".join(f"{band}.{value}-" for band, value in cut)
