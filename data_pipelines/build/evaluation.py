"""The pictures that no training record may show: folders of files, or sources of records."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from jaxtyping import Shaped
from PIL import Image, UnidentifiedImageError

from data_pipelines.build import shards
from data_pipelines.build.duplicates import EVALUATION, KEYS
from data_pipelines.build.hashes import bytes_key, picture_key
from data_pipelines.build.settings import DuplicateSettings
from data_pipelines.schema import unpack
from qwenvl_jax.image.decode import FORMATS

# Suffixes of pictures: a file under one of them that the decoder does not read is an error, as it
# would stay in the training data. Whatever else holds a picture is read too.
_SUFFIXES = frozenset(
    """
    .jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .dib .tif .tiff .mpo .heic .heif .avif
    .jxl .jp2 .j2k .jpx .svg .psd .tga .ppm .pgm .pbm .pnm .ico .exr .hdr .raw .cr2 .cr3 .nef
    .arw .dng
    """.split()
)
_NAMED = 5  # files that a message names


def evaluation_keys(folder: str, *, key: str = "config.evaluation") -> Shaped[np.ndarray, "N"]:
    """Keys of every picture below a folder, or of a source's records; none for an empty name.

    Args:
      key: what an error calls the place where the folder was given.

    Raises:
      ValueError: there is no such folder, no picture in it, or one that cannot be read.
    """
    if not folder:
        return np.zeros(0, KEYS)
    rows, unread = [], []
    for name, data in _pictures(Path(folder), key):
        try:
            rows.append(_key(data))
        except ValueError as error:
            unread.append(f"{name} {error}")
    if unread:
        raise ValueError(
            f"{key}: {len(unread)} of {len(rows) + len(unread)} pictures cannot be read: training"
            f" data might show them: {_some(unread)}; convert them to {', '.join(FORMATS)} or"
            " remove them"
        )
    if not rows:
        raise ValueError(f"{key}: no picture in {folder!r}")
    return np.concatenate(rows)


class Evaluation:
    """Whether a picture is one of an evaluation set or looks like one."""

    def __init__(self, keys: Shaped[np.ndarray, "N"]):
        """
        Args:
          keys: of KEYS, as `evaluation_keys` gives them.
        """
        self._exact = {key.tobytes() for key in keys["image"]}
        self._hashes_NW = np.ascontiguousarray(keys["bands"][keys["seen"]]).view("<u8")
        self._told: dict[bytes, str | None] = {}  # many entries may ask about one picture

    def reason(self, data: bytes) -> str | None:
        """Why a picture is left out: `evaluation_image`, `evaluation_image_near`; None: it is not.

        Raises:
          ValueError: the picture cannot be decoded.
        """
        key = bytes_key(data)
        if key not in self._told:
            self._told[key] = "evaluation_image" if key in self._exact else self._near(data)
        return self._told[key]

    def _near(self, data: bytes) -> str | None:
        if not len(self._hashes_NW) or (bands := picture_key(data)) is None:
            return None
        differ_N = np.bitwise_count(self._hashes_NW ^ bands.view("<u8")).sum(1, dtype=np.uint16)
        near = differ_N.min() <= DuplicateSettings().near_bits
        return "evaluation_image_near" if near else None


def _key(data: bytes) -> Shaped[np.ndarray, "1"]:
    row = np.zeros(1, KEYS)
    bands = picture_key(data)
    row["source"], row["image"] = EVALUATION, np.void(bytes_key(data))
    if bands is not None:
        row["bands"], row["seen"] = bands, True
    return row


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _pictures(folder: Path, key: str) -> Iterator[tuple[str, bytes]]:
    """(where it stands, file) of every picture, also of those that cannot be decoded."""
    if not (folder / shards.MANIFEST).is_file():
        others = []
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            if path.suffix.lower() in _SUFFIXES or _is_picture(path):
                yield str(path), path.read_bytes()
            else:
                others.append(path.name)
        if others:
            print(f"{key}: {len(others)} files are no pictures and are not read: {_some(others)}")
        return
    shards.verify(folder)
    seen: set[bytes] = set()  # a source asks several questions about a picture
    for shard in shards.read_manifest(folder)["shards"]:
        reader = ArrayRecordReader(str(folder / shard["name"]))
        for index in range(shard["records"]):
            record = unpack(reader.read([index])[0])
            for image in record.images:
                if (key := bytes_key(image)) not in seen:
                    seen.add(key)
                    yield f"{folder / shard['name']}: {record.key}", image
        reader.close()


def _is_picture(path: Path) -> bool:
    """Whether a file without a picture's suffix holds one all the same; only its start is read."""
    with path.open("rb") as file:
        try:
            Image.open(file)
        except Image.DecompressionBombError:
            return True  # a picture, though one that will be refused
        except UnidentifiedImageError:
            return False
    return True
