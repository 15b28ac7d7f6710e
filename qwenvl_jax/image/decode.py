"""Encoded image files -> RGB pixels at model size.

Bicubic to R x R, aspect ratio not kept, as the released code does: to the bit what Pillow gives
("exact"), or nearly so in a third of the time ("fast", see `fast.py`). Nothing is decoded before
the header has been read and judged: a 17 KB file can hold 700 MB of pixels.
"""

import io
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from qwenvl_jax.image import fast

Way = Literal["exact", "fast"]
Reason = Literal[
    "unreadable", "format", "too_many_pixels", "aspect", "mode", "animated", "truncated"
]
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF")
# 16-bit and float pictures have no agreed way to 8 bits (PIL would clip): they are refused by name.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


class ImageError(ValueError):
    """An image that is not used. `reason` is for counting, `detail` for reading."""

    def __init__(self, reason: Reason, detail: str):
        super().__init__(f"image refused ({reason}): {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self):  # errors cross process borders in data workers
        return ImageError, (self.reason, self.detail)


def decode(
    data: bytes,
    size: int,
    *,
    way: Way = "exact",
    max_pixels: int = 89_478_485,
    max_aspect: float = 20.0,
) -> UInt8[np.ndarray, "R R 3"]:
    """Decode, convert to RGB and resize to `size` x `size`.

    Transparent parts show white. CMYK and palettes are converted. The orientation tag of a
    photograph is ignored, as in the released code.

    Args:
      data: the whole file.
      size: R, pixels of a side of the result.
      way: both ways accept and refuse the same files, for the same reasons.
      max_pixels: more than this are refused before decoding (the default is Pillow's own warning
        level).
      max_aspect: longer side over shorter side.

    Raises:
      ImageError: with a reason: unreadable (no known image), format, too_many_pixels, aspect, mode
        (16-bit or float pixels), animated, truncated (or damaged).
    """
    picture = _judged(data, max_pixels=max_pixels, max_aspect=max_aspect)
    try:
        if way == "fast" and picture.format in ("JPEG", "MPO") and picture.mode in ("L", "RGB"):
            width, height = picture.size
            pixels = fast.jpeg(data, size, width=width, height=height)
            if pixels is not None:  # else Pillow is to say whether it can be used
                return pixels
        picture = to_rgb(picture)
    except Exception as error:  # on damaged bytes Pillow's decoders raise nearly anything
        raise ImageError("truncated", f"{type(error).__name__}: {error}") from error
    if way == "fast":
        return fast.resize(picture, size)
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))


def decode_whole(
    data: bytes, *, max_pixels: int = 89_478_485, max_aspect: float = 20.0
) -> Image.Image:
    """Decode and convert to RGB at the picture's own size, for callers that cut or resize in
    another manner; refused for the same reasons as by `decode`.

    Raises:
      ImageError: see `decode`.
    """
    picture = _judged(data, max_pixels=max_pixels, max_aspect=max_aspect)
    try:
        return to_rgb(picture)
    except Exception as error:  # on damaged bytes Pillow's decoders raise nearly anything
        raise ImageError("truncated", f"{type(error).__name__}: {error}") from error


def _judged(data: bytes, *, max_pixels: int, max_aspect: float) -> Image.Image:
    """The picture by its header; its pixels are not decoded yet."""
    try:
        picture = _open(data)
        _judge(picture, max_pixels=max_pixels, max_aspect=max_aspect)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too_many_pixels", str(error)) from error
    except Exception as error:  # on damaged headers Pillow's parsers raise nearly anything
        raise ImageError("unreadable", f"{len(data)} bytes: {error}") from error
    return picture


def _open(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    if picture.format not in FORMATS:
        raise ImageError("format", f"{picture.format} is none of {', '.join(FORMATS)}")
    return picture


def _judge(picture: Image.Image, *, max_pixels: int, max_aspect: float) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        raise ImageError("too_many_pixels", f"{width} x {height}, allowed are {max_pixels}")
    if max(width, height) > max_aspect * min(width, height):
        raise ImageError("aspect", f"{width} x {height}, allowed is {max_aspect:g} to 1")
    if picture.mode not in _MODES:
        raise ImageError("mode", f"pixels of mode {picture.mode}")
    # MPO is what many phones write as .jpg: the photograph, then smaller copies of it.
    if picture.format != "MPO" and getattr(picture, "is_animated", False):
        raise ImageError("animated", f"{getattr(picture, 'n_frames', 0)} frames")


def to_rgb(picture: Image.Image) -> Image.Image:
    """Decode the pixels, lay transparent parts on white, convert to RGB."""
    picture.load()
    if picture.has_transparency_data:
        over = picture.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, over).convert("RGB")
    return picture.convert("RGB")
