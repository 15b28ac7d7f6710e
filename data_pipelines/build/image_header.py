"""The size and form of a picture from its first bytes, before anything is decoded.

A 17 KB file can ask a decoder for 730 MB of pixels, and opening a file with an imaging library
costs more than every text rule together; a few header fields answer both.
"""

import struct
from typing import Literal, NamedTuple

Form = Literal["plain", "cmyk", "16bit", "animated"]
MAX_PIXELS = 89_478_485  # as the stream's decoder
# JPEG start-of-frame markers; C4, C8 and CC share the range and are other segments.
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class ImageHeader(NamedTuple):
    """Width and height in pixels, as stored (before any EXIF rotation)."""

    width: int
    height: int
    form: Form = "plain"


def read_header(data: bytes) -> ImageHeader | None:
    """Parse a JPEG, PNG, WebP or GIF header; None where it is none of them or is cut short."""
    try:
        if data[:3] == b"\xff\xd8\xff":
            return _jpeg(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return _gif(data)
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
    # An animated PNG says so between its header and its first pixels.
    animated = 0 <= data.find(b"acTL", 33, 4096) < (data.find(b"IDAT", 33) % (len(data) + 1))
    return ImageHeader(width, height, "animated" if animated else "16bit" if bits > 8 else "plain")


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
    width, height = struct.unpack_from("<HH", data, 6)
    animated = b"NETSCAPE2.0" in data[:2048]  # the block that makes a GIF loop
    return ImageHeader(width, height, "animated" if animated else "plain")
