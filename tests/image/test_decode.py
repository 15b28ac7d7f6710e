"""If these break, training sees other pixels than the released model did, or one bad file stops or
floods a run.
"""

import io
import pickle
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from qwenvl_jax.image.decode import ImageError, decode

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (30, 40, 3), np.uint8)


def saved(picture: Image.Image, form: str, **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def reason_of(data: bytes, **options) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, 16, **options)
    assert caught.value.detail and caught.value.reason in str(caught.value)
    return caught.value.reason


def cubic_1d(row: np.ndarray, size: int) -> np.ndarray:
    """PIL's antialiased bicubic (a = -0.5) along the first axis, written from its definition in
    float.
    """
    scale = len(row) / size
    support = max(scale, 1.0)
    out = []
    for i in range(size):
        centre = (i + 0.5) * scale
        t = np.abs((np.arange(len(row)) + 0.5 - centre) / support)
        near = 1.5 * t**3 - 2.5 * t**2 + 1
        far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
        weights = np.where(t < 1, near, np.where(t < 2, far, 0))
        out.append(np.tensordot(weights / weights.sum(), row, 1))
    return np.stack(out)


def test_pixels_are_antialiased_bicubic_without_aspect():
    """Another filter is another distribution of inputs than the weights learnt."""
    got = decode(saved(Image.fromarray(PIXELS), "PNG"), 16)
    across = np.clip(np.rint(cubic_1d(PIXELS.swapaxes(0, 1).astype(float), 16)), 0, 255)
    expected = np.clip(cubic_1d(across.swapaxes(0, 1), 16), 0, 255)
    assert got.shape == (16, 16, 3) and got.dtype == np.uint8
    assert np.abs(got - expected).max() <= 1.0


def test_every_usual_mode_becomes_rgb():
    """Grey, palette, CMYK and transparent files are a few percent of the web: they must not be lost
    or turn black.
    """
    picture = Image.fromarray(PIXELS)
    for mode in ("1", "L", "P", "RGBA", "LA"):
        assert decode(saved(picture.convert(mode), "PNG"), 8).shape == (8, 8, 3)
    assert decode(saved(picture.convert("CMYK"), "JPEG"), 8).shape == (8, 8, 3)
    clear = Image.new("RGBA", (9, 9), (0, 0, 0, 0))
    assert (decode(saved(clear, "PNG"), 4) == 255).all()
    keyed = Image.new("P", (9, 9), 0)
    assert (decode(saved(keyed, "PNG", transparency=0), 4) == 255).all()
    phone = saved(picture, "MPO", save_all=True, append_images=[Image.new("RGB", (4, 4))])
    assert (decode(phone, 8) == decode(saved(picture, "JPEG"), 8)).all()


def test_refused_by_name():
    """The reasons are what a data report counts."""
    picture = Image.fromarray(PIXELS)
    png, jpeg = saved(picture, "PNG"), saved(picture, "JPEG")
    frames = [picture, Image.fromarray(255 - PIXELS)]
    deep = Image.fromarray(RNG.integers(0, 65536, (8, 8), np.uint16))
    assert reason_of(b"") == reason_of(b"<html>") == "unreadable"
    assert reason_of(saved(picture, "PPM")) == "format"
    assert reason_of(png, max_pixels=1199) == "too_many_pixels"
    assert decode(png, 4, max_pixels=1200).shape == (4, 4, 3)
    assert reason_of(png, max_aspect=1.3) == "aspect"
    assert reason_of(saved(deep, "PNG")) == "mode"
    assert reason_of(saved(frames[0], "GIF", save_all=True, append_images=frames[1:])) == "animated"
    assert reason_of(png[: len(png) // 2]) == reason_of(jpeg[: len(jpeg) // 2]) == "truncated"
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_small_file_with_huge_picture_is_never_decoded():
    """A header that promises 10^9 pixels must cost nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", 12_000, 12_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))
    assert reason_of(bomb) == "too_many_pixels"
    larger = bomb.replace(header, struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    assert reason_of(larger) in ("too_many_pixels", "unreadable")


@pytest.mark.filterwarnings("ignore")  # Pillow's remarks on damaged tags
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_damaged_files_raise_one_kind_of_error(form):
    """Anything but ImageError ends the whole input pipeline over one bad file."""
    whole, draw = saved(Image.fromarray(PIXELS), form), random.Random(form)
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(4):
            data[draw.randrange(min(len(data), 400))] = draw.randrange(256)
        try:
            assert decode(bytes(data), 8).shape == (8, 8, 3)
        except ImageError:
            refused += 1
    assert refused


def test_error_crosses_processes():
    """A worker's error that cannot be unpickled kills the pool instead of being counted."""
    error = pickle.loads(pickle.dumps(ImageError("aspect", "1 x 99")))
    assert error.reason == "aspect" and "1 x 99" in str(error)
