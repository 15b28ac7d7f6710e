"""The pictures that no training record may show, as rows of keys that stand before all others."""

from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from data_pipelines.build.duplicates import EVALUATION, KEYS
from data_pipelines.build.hashes import bytes_key, picture_key

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")


def evaluation_keys(folder: str) -> Shaped[np.ndarray, "N"]:
    """Keys of every picture below a folder; none for an empty name.

    Raises:
      ValueError: there is no such folder, no picture in it, or one that cannot be read.
    """
    if not folder:
        return np.zeros(0, KEYS)
    files = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not files:
        raise ValueError(f"config.evaluation: no picture in {folder!r}")
    keys = np.zeros(len(files), KEYS)
    keys["source"] = EVALUATION
    for row, file in zip(keys, files):
        data = file.read_bytes()
        try:
            bands = picture_key(data)
        except ValueError as error:
            raise ValueError(f"config.evaluation: {file} {error}") from error
        row["image"] = bytes_key(data)
        if bands is not None:
            row["bands"], row["seen"] = bands, True
    return keys
