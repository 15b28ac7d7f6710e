"""Which records are duplicates, decided in one pass over the keys of all shards.

The keys come in the order of sources, shards and records, and the first of a group stays, so that
the outcome does not depend on who computed a shard or when. Near duplicates are found by bands:
two hashes of 256 bits that differ in at most 15 share one of their 16 bands whole, and only records
that share a band are compared.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt16

from data_pipelines.build.hashes import BANDS, bytes_key, picture_key
from data_pipelines.build.settings import DuplicateSettings

KEYS = np.dtype(
    [
        ("name", "V16"), ("image", "V16"), ("text", "V16"), ("bands", "<u2", (BANDS,)),
        ("seen", "?"), ("source", "<u2"),
    ]
)  # fmt: skip


class EvaluationKeys(NamedTuple):
    """The pictures that no training record may show."""

    images: frozenset[bytes] = frozenset()
    bands_NB: UInt16[np.ndarray, "N 16"] = np.zeros((0, BANDS), np.uint16)


def evaluation_keys(folder: str) -> EvaluationKeys:
    """Keys of every picture below a folder; none for an empty name.

    Raises:
      ValueError: there is no such folder, no picture in it, or one that cannot be read.
    """
    if not folder:
        return EvaluationKeys()
    suffixes = {".jpg", ".jpeg", ".png", ".webp", ".gif"}
    files = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in suffixes)
    if not files:
        raise ValueError(f"config.evaluation: no picture in {folder!r}")
    images, bands = set(), []
    for file in files:
        data = file.read_bytes()
        images.add(bytes_key(data))
        try:
            key = picture_key(data)
        except ValueError as error:
            raise ValueError(f"config.evaluation: {file} {error}") from error
        if key is not None:
            bands.append(key)
    return EvaluationKeys(frozenset(images), np.array(bands, np.uint16).reshape(len(bands), BANDS))


class Decider:
    """Says of each record, in order, under which rule it is dropped."""

    def __init__(self, settings: DuplicateSettings, evaluation: EvaluationKeys):
        self._settings = settings
        self._evaluation_images = evaluation.images
        self._evaluation = _Neighbours(settings.near_bits)
        for bands in evaluation.bands_NB:
            self._evaluation.add(bands, owner=0)
        self._kept = _Neighbours(settings.near_bits)
        self._names: set[tuple[int, bytes]] = set()
        self._images: dict[bytes, int] = {}
        self._texts: dict[bytes, int] = defaultdict(int)

    def decide(self, keys: Iterable[np.void]) -> list[str | None]:
        """The rule for each of a shard's records, None for those that stay."""
        return [self._one(row) for row in keys]

    def _one(self, row: np.void) -> str | None:
        source = int(row["source"])
        name = (source, row["name"].tobytes())
        image, text = row["image"].tobytes(), row["text"].tobytes()
        if name in self._names:
            return "duplicate_key"
        if image in self._evaluation_images:
            return "evaluation_image"
        if image in self._images:
            return "same_image" if self._images[image] == source else "same_image_other_source"
        limit = self._settings.text_copies
        if limit and self._texts[text] >= limit:
            return "same_text"
        if row["seen"]:
            if self._evaluation.find(row["bands"]) is not None:
                return "evaluation_image_near"
            owner = self._kept.find(row["bands"])
            if owner is not None:
                return "near_image" if owner == source else "near_image_other_source"
            self._kept.add(row["bands"], owner=source)
        self._names.add(name)
        self._images[image] = source
        self._texts[text] += 1
        return None


class _Neighbours:
    """Hashes seen so far, by band."""

    def __init__(self, near_bits: int):
        self._near_bits = near_bits
        self._bands: dict[int, list[int]] = defaultdict(list)
        self._hashes: list[int] = []
        self._owners: list[int] = []

    def add(self, bands: UInt16[np.ndarray, "16"], *, owner: int) -> None:
        for place, band in enumerate(bands.tolist()):
            self._bands[place << 16 | band].append(len(self._hashes))
        self._hashes.append(int.from_bytes(bands.astype("<u2").tobytes(), "little"))
        self._owners.append(owner)

    def find(self, bands: UInt16[np.ndarray, "16"]) -> int | None:
        """The owner of the earliest hash within the distance."""
        own = int.from_bytes(bands.astype("<u2").tobytes(), "little")
        found: set[int] = set()
        for place, band in enumerate(bands.tolist()):
            found.update(self._bands.get(place << 16 | band, ()))
        near = [i for i in found if (self._hashes[i] ^ own).bit_count() <= self._near_bits]
        return self._owners[min(near)] if near else None
