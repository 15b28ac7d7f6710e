"""The fast way from a file to pixels: libjpeg-turbo without Pillow around it, and a SIMD resize.

The resize is the exact way's antialiased bicubic (a = -0.5) in 8-bit fixed point. A JPEG of several
times the wanted size is decoded at a half, a quarter or an eighth of its own, which the format
allows at less cost; the eighths between look visibly different and are not used.
"""

import math

import numpy as np
import simplejpeg
from cykooz_resizer import (
    CropBox,
    FilterType,
    ImageData,
    PixelType,
    ResizeAlg,
    ResizeOptions,
    Resizer,
)
from jaxtyping import UInt8

# A smaller decode leaves at least this many times the wanted pixels a side. At 1.5 every photograph
# of benchmarks/decode_image.py stays above 44 dB, at 1.2 none of sharp edges does.
SPARE = 1.5

_BICUBIC = ResizeAlg.convolution(FilterType.catmull_rom)


def jpeg(data: bytes, size: int, *, width: int, height: int) -> UInt8[np.ndarray, "R R 3"] | None:
    """A grey or three-colour JPEG at `size` x `size`; None where the file does not decode cleanly
    or is not of the size that was judged.

    Args:
      width, height: as the header was read before, when the file was judged.
    """
    factor = shrink(width, height, size)
    pixels = decode_jpeg(data, width=width, height=height, factor=factor)
    if pixels is None:
        return None
    # A side that `factor` does not divide ends within the last scaled pixel. Taken as a whole
    # pixel it would shift the picture: 30 dB instead of 46.
    return resize(pixels, size, box=(width / factor, height / factor))


def shrink(width: int, height: int, size: int) -> int:
    """By how much to divide the sides while decoding: 8, 4, 2 or 1."""
    return next((f for f in (8, 4, 2) if min(width, height) / f >= SPARE * size), 1)


def decode_jpeg(
    data: bytes, *, width: int, height: int, factor: int
) -> UInt8[np.ndarray, "H W 3"] | None:
    """Pixels at 1 / factor of the size, rounded up; None as in `jpeg`."""
    try:
        if simplejpeg.decode_jpeg_header(data)[:2] != (height, width):
            return None
        return simplejpeg.decode_jpeg(
            data,
            min_height=math.ceil(height / factor),
            min_width=math.ceil(width / factor),
            min_factor=factor,
        )
    except ValueError:
        return None


def resize(
    pixels: UInt8[np.ndarray, "H W 3"], size: int, *, box: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "R R 3"]:
    """Antialiased bicubic to `size` x `size`, a few levels at most from Pillow's.

    Args:
      box: (width, height) of the part, from the upper left, that is the picture; None: all.
    """
    height, width, _ = pixels.shape
    source = ImageData(width, height, PixelType.U8x3, pixels.tobytes())
    target = ImageData(size, size, PixelType.U8x3)
    part = CropBox(0.0, 0.0, *(box or (width, height)))
    Resizer().resize(source, target, ResizeOptions(_BICUBIC, use_alpha=False, crop_box=part))
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(size, size, 3)
