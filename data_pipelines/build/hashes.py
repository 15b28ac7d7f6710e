"""Keys under which duplicates meet: of a picture's bytes, of a text, and of how a picture looks."""

import io

import numpy as np
import xxhash
from jaxtyping import UInt16
from PIL import Image

from qwenvl_jax.image.decode import FORMATS, to_rgb

BANDS = 16  # of 16 bits: two hashes that differ in fewer than 16 bits share a whole band
_FLAT = 2.0  # grey levels of standard deviation below which a picture shows nothing to compare
_SIDE = 64
_COUNT = 23  # frequencies a direction: more than 256 pairs have a sum below 23
_COSINES_KH = np.cos(
    np.pi * np.arange(_COUNT)[:, None] * (2 * np.arange(_SIDE) + 1)[None] / (2 * _SIDE)
)
# The 256 pairs of least sum, the mean (0, 0) left out.
_LOWEST = tuple(np.array(sorted(np.ndindex(_COUNT, _COUNT), key=lambda at: (sum(at), at))[1:257]).T)


def bytes_key(data: bytes) -> bytes:
    """16 bytes; two files have the same key where they have the same content."""
    return xxhash.xxh3_128_digest(data)


def text_key(text: str) -> bytes:
    """16 bytes; case and white space do not count."""
    return xxhash.xxh3_128_digest(" ".join(text.casefold().split()).encode("utf-8", "replace"))


def picture_key(data: bytes) -> UInt16[np.ndarray, "16"] | None:
    """256 bits of a picture: the signs of its lowest frequencies, without the mean.

    Low frequencies survive another size and another quality. The whole file is decoded, JPEG at
    its smallest scale of at least 64 pixels. Transparent parts are white, as the model sees them. A
    flat picture gives None: its bits would be noise.

    Raises:
      ValueError: the picture cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.format not in FORMATS:
                raise ValueError(f"{image.format} is none of {', '.join(FORMATS)}")
            image.draft("L", (_SIDE, _SIDE))
            shown = image if image.mode == "L" else to_rgb(image)
            grey = shown.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    except Exception as error:  # Pillow's plugins raise many kinds on damaged files
        raise ValueError(f"cannot be decoded: {error}") from error
    grey_HW = np.asarray(grey, np.float64)
    if grey_HW.std() < _FLAT:
        return None
    frequencies_KK = _COSINES_KH @ grey_HW @ _COSINES_KH.T
    return np.packbits(frequencies_KK[_LOWEST] > 0).view(">u2").astype(np.uint16)
