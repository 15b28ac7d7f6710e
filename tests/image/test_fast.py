"""If these break, training with `decode="fast"` sees visibly other pixels, or another choice of
files, than evaluation does.
"""

import io
import random

import numpy as np
import pytest
from cykooz_resizer import CpuExtensions, Resizer
from PIL import Image
from skimage import data

from qwenvl_jax.image import fast
from qwenvl_jax.image.decode import ImageError, decode

PHOTOS = (data.astronaut, data.coffee, data.chelsea, data.rocket)


def saved(picture: Image.Image, form: str, **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def photo(take, width: int, height: int) -> Image.Image:
    return Image.fromarray(take()).resize((width, height), Image.Resampling.LANCZOS)


def decibels(left: np.ndarray, right: np.ndarray) -> float:
    error = np.mean((left.astype(float) - right) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@pytest.mark.parametrize("take", PHOTOS)
@pytest.mark.parametrize(
    ("width", "height"),
    [
        (500, 375),
        (359, 358),
        (640, 480),
        (480, 640),
        (800, 600),
        (599, 760),
        (671, 690),
        (673, 679),
        (1344, 1347),
        (1349, 1800),
        (2689, 2701),
        (300, 200),
    ],
)
def test_pixels_are_nearly_the_exact_ones(take, width, height):
    """At every step of scaled decode and repeated colours, above and below, and enlarging."""
    file = saved(photo(take, width, height), "JPEG", quality=88)
    assert decibels(decode(file, 224, way="fast"), decode(file, 224)) >= 44


@pytest.mark.parametrize("take", PHOTOS)
def test_resize_is_antialiased(take):
    """A resize without antialiasing, the usual fast one, is below 30 dB here."""
    file = saved(photo(take, 700, 500), "PNG")
    assert decibels(decode(file, 64, way="fast"), decode(file, 64)) >= 48


def test_large_jpegs_are_decoded_smaller():
    """This is where the time goes for large pictures; a changed library may ignore the wish."""
    file = saved(photo(data.coffee, 1301, 700), "JPEG")
    for factor, shape in {1: (700, 1301), 2: (350, 651), 4: (175, 326), 8: (88, 163)}.items():
        assert fast.decode_jpeg(file, width=1301, height=700, factor=factor).size == shape[::-1]
    assert [fast.shrink(1301, 700, size) for size in (65, 66, 131, 262, 263)] == [8, 4, 4, 2, 1]
    assert [fast.shrink(700, 700, size) for size in (58, 59, 116, 233, 234)] == [8, 4, 4, 2, 1]


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "RGBA", "P", "1", "LA"])
def test_every_usual_mode_becomes_the_same_rgb(mode):
    """Colours swapped or inverted on one way alone would go unnoticed in training."""
    picture = photo(data.astronaut, 90, 70).convert(mode)
    form = "JPEG" if mode in ("L", "RGB", "CMYK") else "PNG"
    file = saved(picture, form)
    assert decibels(decode(file, 32, way="fast"), decode(file, 32)) >= 40


def test_every_processor_gives_the_same_pixels(monkeypatch):
    """A job that moves to older machines must go on with the same batches."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (97, 131, 3), np.uint8))
    own = [fast.resize(noise, size, box=(130.5, 96.5)) for size in (32, 200)]
    plain = Resizer()
    plain.cpu_extensions = CpuExtensions.none  # no SIMD at all
    monkeypatch.setattr(fast._KEPT, "resizer", plain)
    for pixels_RR3, size in zip(own, (32, 200), strict=True):
        np.testing.assert_array_equal(fast.resize(noise, size, box=(130.5, 96.5)), pixels_RR3)


def test_pixels_are_not_overwritten_by_the_next_picture():
    """Decoding reuses its memory: a row of several pictures would show the last one alone."""
    files = [saved(photo(take, 90, 70), "JPEG") for take in PHOTOS]
    together = [decode(file, 90, way="fast") for file in files]
    for file, pixels in zip(files, together, strict=True):
        assert decibels(pixels, decode(file, 90)) >= 44


def test_smallest_pictures():
    """One pixel, one row, and pictures that are enlarged."""
    for width, height in ((1, 1), (1, 9), (15, 1), (3, 2)):
        picture = photo(data.coffee, width, height)
        for form in ("PNG", "JPEG"):
            file = saved(picture, form)
            fast_RR3, exact_RR3 = decode(file, 16, way="fast"), decode(file, 16)
            assert fast_RR3.shape == (16, 16, 3)
            assert np.abs(fast_RR3.astype(int) - exact_RR3).max() <= 3


def test_another_size_than_was_judged_is_left_to_pillow():
    """The caps on pixels hold for what is decoded, whatever a second header in the file says."""
    file = saved(photo(data.coffee, 60, 40), "JPEG")
    assert fast.jpeg(file, 16, width=60, height=40) is not None
    assert fast.jpeg(file, 16, width=40, height=60) is None


@pytest.mark.filterwarnings("ignore")  # Pillow's remarks on damaged tags
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_both_ways_refuse_the_same_files(form):
    """Else a run decoded fast trains on other records than its report says."""
    whole, draw = saved(photo(data.coffee, 50, 40), form), random.Random(form)

    def outcome(file, way):
        try:
            return decode(file, 8, way=way).shape
        except ImageError as error:
            return error.reason

    outcomes = []
    for trial in range(200):
        file = bytearray(whole)
        if trial % 4 == 0:
            del file[draw.randrange(len(file)) :]
        else:
            for _ in range(4):
                file[draw.randrange(min(len(file), 700))] = draw.randrange(256)
        exact, quick = (outcome(bytes(file), way) for way in ("exact", "fast"))
        assert exact == quick
        outcomes.append(exact)
    assert len(set(outcomes)) > 1 and "truncated" in outcomes
