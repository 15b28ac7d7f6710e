"""The fast way from a file to pixels: libjpeg-turbo without Pillow around it, and a SIMD resize.

The resize is the exact way's antialiased bicubic (a = -0.5) in 8-bit fixed point. A JPEG of several
times the wanted size is decoded at a half, a quarter or an eighth of its own, which the format
allows at less cost; the eighths between look visibly different and are not used.

Pixels are decoded once, in the four bytes each that Pillow's RGB pictures have in memory, and
resized from there: every copy between would cost a tenth of the whole.
"""

import math
import threading

import numpy as np
import simplejpeg
from cykooz_resizer import CropBox, FilterType, ResizeAlg, ResizeOptions, Resizer
from cykooz_resizer.alpha import set_image_mode
from jaxtyping import UInt8
from PIL import Image

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
    picture = decode_jpeg(data, width=width, height=height, factor=factor, plain_chroma=plain)
    if picture is None:
        return None
    # A side that `factor` does not divide ends within the last scaled pixel. Taken as a whole
    # pixel it would shift the picture: 30 dB instead of 46.
    return resize(picture, size, box=(width / factor, height / factor))


def shrink(width: int, height: int, size: int) -> int:
    """By how much to divide the sides while decoding: 8, 4, 2 or 1."""
    for factor in (8, 4, 2):
        wide, high = width / factor / size, height / factor / size
        if min(wide, high) >= SIDE and wide * high >= AVERAGE**2:
            return factor
    return 1


def decode_jpeg(
    data: bytes, *, width: int, height: int, factor: int, plain_chroma: bool = False
) -> Image.Image | None:
    """RGB at 1 / factor of the size, rounded up; None as in `jpeg`. Its pixels lie in memory that
    the thread's next call writes over.

    Args:
      plain_chroma: repeat colours that are stored at half the size instead of interpolating them.
    """
    scaled_height, scaled_width = math.ceil(height / factor), math.ceil(width / factor)
    try:
        if simplejpeg.decode_jpeg_header(data)[:2] != (height, width):
            return None
        pixels_HW4 = simplejpeg.decode_jpeg(
            data,
            "RGBX",
            min_height=scaled_height,
            min_width=scaled_width,
            min_factor=factor,
            fastupsample=plain_chroma,
            buffer=_KEPT.buffer(scaled_height * scaled_width * 4),
        )
    except ValueError:
        return None
    high, wide, _ = pixels_HW4.shape
    picture = Image.frombuffer("RGBX", (wide, high), pixels_HW4, "raw", "RGBX", 0, 1)
    set_image_mode(picture, "RGB")  # Pillow itself could only copy it to another mode
    return picture


def resize(
    picture: Image.Image, size: int, *, box: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "R R 3"]:
    """Antialiased bicubic of an RGB picture to `size` x `size`, a few levels at most from Pillow's.

    Args:
      box: (width, height) of the part, from the upper left, that is the picture; None: all.
    """
    target = Image.new("RGB", (size, size))
    part = CropBox(0.0, 0.0, *(box or picture.size))
    _KEPT.resizer.resize_pil(picture, target, ResizeOptions(_BICUBIC, crop_box=part))
    return np.asarray(target)
