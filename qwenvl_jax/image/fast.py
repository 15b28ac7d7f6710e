"""The fast way from a file to pixels: libjpeg-turbo without Pillow around it, and a SIMD resize.

The resize is the exact way's antialiased bicubic (a = -0.5) in 8-bit fixed point. A JPEG of several
times the wanted size is decoded at a half, a quarter or an eighth of its own, which the format
allows at less cost; the eighths between look visibly different and are not used.
"""

import math
import threading

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

# What a smaller decode leaves at least, in multiples of the wanted size: of either side, and of
# both on the (geometric) average. With these every photograph of tests/image stays above 44 dB.
SIDE, AVERAGE = 4 / 3, 1.5
# From so many multiples of the wanted size on, on either side, colours that are stored at half the
# size are repeated instead of interpolated: the resize levels it out (46 dB and more at 224).
PLAIN_CHROMA = 1.6

_BICUBIC = ResizeAlg.convolution(FilterType.catmull_rom)


class _Kept(threading.local):
    """Memory that a thread keeps from picture to picture: given back to the system and asked for
    again, its pages cost as much as the resize.
    """

    most = 2**25  # bytes; the few pictures that want more go without

    def __init__(self):
        self.resizer = Resizer()
        self._pixels = bytearray()

    def buffer(self, count: int) -> bytearray | None:
        """At least `count` bytes, with what the last picture left in them."""
        if count > self.most:
            return None
        if len(self._pixels) < count:
            self._pixels = bytearray(count)
        return self._pixels


_KEPT = _Kept()


def jpeg(data: bytes, size: int, *, width: int, height: int) -> UInt8[np.ndarray, "R R 3"] | None:
    """A grey or three-colour JPEG at `size` x `size`; None where the file does not decode cleanly
    or is not of the size that was judged.

    Args:
      width, height: as the header was read before, when the file was judged.
    """
    factor = shrink(width, height, size)
    plain = min(width, height) >= PLAIN_CHROMA * factor * size
    pixels = decode_jpeg(data, width=width, height=height, factor=factor, plain_chroma=plain)
    if pixels is None:
        return None
    # A side that `factor` does not divide ends within the last scaled pixel. Taken as a whole
    # pixel it would shift the picture: 30 dB instead of 46.
    return resize(pixels, size, box=(width / factor, height / factor))


def shrink(width: int, height: int, size: int) -> int:
    """By how much to divide the sides while decoding: 8, 4, 2 or 1."""
    for factor in (8, 4, 2):
        wide, high = width / factor / size, height / factor / size
        if min(wide, high) >= SIDE and wide * high >= AVERAGE**2:
            return factor
    return 1


def decode_jpeg(
    data: bytes, *, width: int, height: int, factor: int, plain_chroma: bool = False
) -> UInt8[np.ndarray, "H W 3"] | None:
    """Pixels at 1 / factor of the size, rounded up; None as in `jpeg`. They lie in memory that the
    thread's next call writes over.

    Args:
      plain_chroma: repeat colours that are stored at half the size instead of interpolating them.
    """
    scaled_height, scaled_width = math.ceil(height / factor), math.ceil(width / factor)
    try:
        if simplejpeg.decode_jpeg_header(data)[:2] != (height, width):
            return None
        return simplejpeg.decode_jpeg(
            data,
            min_height=scaled_height,
            min_width=scaled_width,
            min_factor=factor,
            fastupsample=plain_chroma,
            buffer=_KEPT.buffer(scaled_height * scaled_width * 3),
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
    _KEPT.resizer.resize(source, target, ResizeOptions(_BICUBIC, use_alpha=False, crop_box=part))
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(size, size, 3)
