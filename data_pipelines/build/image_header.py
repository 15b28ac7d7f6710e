"""The size and form of a picture from its first bytes, before anything is decoded.

A 17 KB file can ask a decoder for 730 MB of pixels, and opening a file with an imaging library
costs more than every text rule together; a few header fields answer both.
"""

import struct
from typing import Literal, NamedTuple

Form = Literal["plain", "cmyk", "16bit", "animated"]
MAX_PIXELS = 89_478_485  # as the stream's decoder
_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
# JPEG start-of-frame markers; C4, C8 and CC share the range and are other segments.
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class ImageHeader(NamedTuple):
    """Width and height in pixels, as stored (before any EXIF rotation)."""

    width: int
    height: int
    form: Form = "plain"


def read_header(data: bytes) -> ImageHeader | None:
    """Parse a JPEG, PNG, WebP, GIF, BMP or TIFF header; None for others or one that is cut."""
    try:
        if data[:3] == b"\xff\xd8\xff":
            return _jpeg(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return _gif(data)
        if data[:2] == b"BM":
            return _bmp(data)
        if data[:4] in _TIFF:
            return _tiff(data, _TIFF[data[:4]])
    except (struct.error, IndexError):  # the file ends inside its header
        return None
    return None


def refusal(header: ImageHeader | None) -> str | None:
    """Why the stream would refuse a picture with this header; None where it would not."""
    if header is None:
        return "image_unreadable"
    if not 0 < header.width * header.height <= MAX_PIXELS:
        return "image_pixels"
    if header.form in ("16bit", "animated"):
        return f"image_{header.form}"
    return None


def _jpeg(data: bytes) -> ImageHeader | None:
    position = 2
    while True:
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker in _SOF:
            bits, height, width, components = struct.unpack_from(">BHHB", data, position + 4)
            form: Form = "16bit" if bits > 8 else "cmyk" if components == 4 else "plain"
            return ImageHeader(width, height, form)
        if marker in (0xD9, 0xDA):  # pixels or the end, and no size so far
            return None
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a length
            position += 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        if length < 2:
            return None
        position += 2 + length


def _png(data: bytes) -> ImageHeader | None:
    if data[12:16] != b"IHDR":
        return None
    width, height, bits = struct.unpack_from(">IIB", data, 16)
    position = 33
    while data[position + 4 : position + 8] not in (b"IDAT", b""):
        (length,) = struct.unpack_from(">I", data, position)
        if data[position + 4 : position + 8] == b"acTL":  # an animated PNG, if of several frames
            (frames,) = struct.unpack_from(">I", data, position + 8)
            if frames > 1:
                return ImageHeader(width, height, "animated")
        position += 12 + length
    return ImageHeader(width, height, "16bit" if bits > 8 else "plain")


def _webp(data: bytes) -> ImageHeader | None:
    kind = data[12:16]
    if kind == b"VP8X":
        size = data[24:30]
        if len(size) < 6:
            return None
        width = 1 + int.from_bytes(size[:3], "little")
        height = 1 + int.from_bytes(size[3:], "little")
        return ImageHeader(width, height, "animated" if data[20] & 2 else "plain")
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return ImageHeader(width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return ImageHeader(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    return None


def _gif(data: bytes) -> ImageHeader:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position, frames = 13 + _palette(flags), 0
    while data[position : position + 1] in (b"!", b","):
        if data[position] == 0x2C:
            frames += 1
            if frames > 1:
                return ImageHeader(width, height, "animated")
            position += 11 + _palette(data[position + 9])  # and one byte, the size of a code
        else:
            position += 2
        while position < len(data) and data[position]:  # blocks of up to 255 bytes
            position += 1 + data[position]
        position += 1
    return ImageHeader(width, height)


def _palette(flags: int) -> int:
    """Bytes of the palette that follows."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _bmp(data: bytes) -> ImageHeader | None:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:  # OS/2
        width, height, planes = struct.unpack_from("<HHH", data, 18)
    elif 40 <= size <= 124:
        width, height, planes = struct.unpack_from("<iiH", data, 18)
    else:
        return None
    return ImageHeader(width, abs(height)) if planes == 1 and width > 0 else None


def _tiff(data: bytes, order: str) -> ImageHeader | None:
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    tags = {}
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", data, entry)
        if kind not in (3, 4) or not number:  # 16 and 32 bits
            continue
        form, size = (order + "H", 2) if kind == 3 else (order + "I", 4)
        # Values that do not fit into the entry stand elsewhere; the first is enough.
        at = entry + 8
        if number * size > 4:
            (at,) = struct.unpack_from(order + "I", data, at)
        (tags[tag],) = struct.unpack_from(form, data, at)
    (following,) = struct.unpack_from(order + "I", data, start + 2 + 12 * count)
    if 256 not in tags or 257 not in tags:
        return None
    form: Form = "plain"
    if following:  # several pages
        form = "animated"
    elif tags.get(258, 1) > 8 or tags.get(339, 1) == 3:
        form = "16bit"
    elif tags.get(262) == 5:
        form = "cmyk"
    return ImageHeader(tags[256], tags[257], form)
