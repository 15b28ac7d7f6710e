"""Keys under which duplicates meet: of a picture's bytes, of a text, and of how a picture looks."""

import io

import numpy as np
import xxhash
from jaxtyping import UInt16
from PIL import Image

BANDS = 16  # of 16 bits: two hashes that differ in fewer than 16 bits share a whole band
_FLAT = 2.0  # grey levels of standard deviation below which a picture shows nothing to compare


def bytes_key(data: bytes) -> bytes:
    """16 bytes; two files have the same key where they have the same content."""
    return xxhash.xxh3_128_digest(data)


def text_key(text: str) -> bytes:
    """16 bytes; case and white space do not count."""
    return xxhash.xxh3_128_digest(" ".join(text.casefold().split()).encode("utf-8", "replace"))


def picture_key(data: bytes) -> UInt16[np.ndarray, "16"] | None:
    """256 bits of a picture: is it brighter to the right, at each of 16 x 16 places?

    The whole file is decoded, JPEG at the smallest scale that its format offers. A flat picture
    gives None: its bits would be noise.

    Raises:
      ValueError: the picture cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.draft("L", (64, 64))
            grey = image.convert("L").resize((17, 16), Image.Resampling.BOX)
    except Exception as error:  # Pillow's plugins raise many kinds on damaged files
        raise ValueError(f"cannot be decoded: {error}") from error
    grey_HW = np.asarray(grey, np.int16)
    if grey_HW.std() < _FLAT:
        return None
    bits_HW = grey_HW[:, 1:] > grey_HW[:, :-1]
    return np.packbits(bits_HW, axis=None).view(">u2").astype(np.uint16)
