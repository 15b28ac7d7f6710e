"""Words on signs: short, common, and drawn large enough to be read at 64 pixels."""

import functools
import math
import random
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from data_pipelines.build.ocr.fonts import cjk_font
from data_pipelines.build.scenes.captions import Language

# Chinese words share few characters, and so are read one by one.
WORDS = {
    "en": (
        "open shop milk exit taxi park fish cake book gold moon west home cafe bank soup farm bird "
        "king door lake wind"
    ).split(),
    "zh": (
        "大山 小山 火山 山水 山门 大门 木门 门口 山口 大火 大水 水车 火车 小车 大鱼 小鱼 水鸟 小鸟 "
        "火鸟 大牛 小牛 水牛 牛车 木车 大米 小米 小花 火花 大国 国花 花店 小店 米店 鱼店 山花"
    ).split(),
}
_HEIGHT = (0.34, 0.42)  # of a sign, as a share of the picture
_TILT = 5.0  # degrees, at most
_DRAWN = 4  # a sign is drawn so many times larger, then shrunk
_TRIES = 60
_PAINTS = (((255, 255, 255), (20, 20, 20)), ((250, 220, 60), (20, 20, 20)))  # board, ink
_MARGIN = 0.1  # at either end of a word, as a share of its sign's height


class Sign(NamedTuple):
    """A word on a tilted rectangle, in pixels of the picture."""

    word: str
    center: tuple[float, float]
    size: tuple[float, float]  # width and height before it is tilted
    tilt: float  # degrees, clockwise on the screen
    paint: int

    def corners(self) -> list[tuple[float, float]]:
        """Top-left, top-right, bottom-right, bottom-left."""
        sin, cos = math.sin(math.radians(self.tilt)), math.cos(math.radians(self.tilt))
        (x, y), (w, h) = self.center, self.size
        around = ((-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2))
        return [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in around]

    def along(self, share: float) -> tuple[float, float]:
        """The point after a share of the word's length."""
        (x, y), h = self.center, self.size[1]
        ahead = (share - 0.5) * (_length(self.word) - 2 * _MARGIN) * h
        turned = math.radians(self.tilt)
        return x + ahead * math.cos(turned), y + ahead * math.sin(turned)

    def bounds(self) -> tuple[float, float, float, float]:
        xs, ys = zip(*self.corners(), strict=True)
        return min(xs), min(ys), max(xs), max(ys)


def place_signs(
    rng: random.Random, *, language: Language, image_size: int, step: int = 1
) -> tuple[Sign, ...]:
    """One sign or two that lie in the picture and touch each other nowhere, from top to bottom.

    Args:
      step: edges lie on multiples of so many pixels; with more than one, signs are upright.
    """
    signs: list[Sign] = []
    for word in rng.sample(WORDS[language], rng.choice((1, 1, 2))):
        for _ in range(_TRIES):
            height = rng.uniform(*_HEIGHT) * image_size
            tilt, paint = rng.uniform(-_TILT, _TILT), rng.randrange(len(_PAINTS))
            width = height * _length(word)
            if step > 1:
                height, tilt = float(round(height / step) * step), 0.0
                width = float(math.ceil(height * _length(word) / step) * step)
            size = (width, height)
            center = tuple(_middle(rng, side, image_size, step) for side in size)
            new = Sign(word, center, size, tilt, paint)
            x0, y0, x1, y1 = new.bounds()
            inside = min(x0, y0) >= 0 and max(x1, y1) <= image_size
            if inside and all(_apart(new.bounds(), sign.bounds()) for sign in signs):
                signs.append(new)
                break
    signs.sort(key=lambda sign: (sign.center[1], sign.center[0]))
    return tuple(signs)


def draw_signs(signs: tuple[Sign, ...], under: Image.Image) -> Image.Image:
    """The signs on a copy of `under`."""
    picture = under.copy()
    for sign in signs:
        x0, y0, x1, y1 = sign.bounds()
        corner = math.floor(x0) - 1, math.floor(y0) - 1  # of as much as the sign can touch
        part = math.ceil(x1) + 1 - corner[0], math.ceil(y1) + 1 - corner[1]
        layer = Image.new("RGBA", tuple(side * _DRAWN for side in part))
        board, ink = _PAINTS[sign.paint]
        x, y = ((c - k) * _DRAWN for c, k in zip(sign.center, corner, strict=True))
        w, h = (s * _DRAWN for s in sign.size)
        drawing = ImageDraw.Draw(layer)
        drawing.rectangle((x - w / 2, y - h / 2, x + w / 2, y + h / 2), fill=board)
        font = _font(round(0.75 * h))
        drawing.text((x, y), sign.word, font=font, fill=ink, anchor="mm")
        # Pillow turns counter-clockwise.
        layer = layer.rotate(-sign.tilt, Image.Resampling.BICUBIC, center=(x, y))
        layer = layer.resize(part, Image.Resampling.BOX)
        picture.paste(layer, corner, layer)
    return picture


def _middle(rng: random.Random, side: float, image_size: int, step: int) -> float:
    """Where a sign's middle may be along an axis of the picture."""
    if step > 1:
        return rng.randint(0, int(image_size - side) // step) * step + side / 2
    return rng.uniform(side / 2, image_size - side / 2)


@functools.cache
def _length(word: str) -> float:
    """Width of a word's sign over its height."""
    return 0.75 * _font(100).getlength(word) / 100 + 2 * _MARGIN


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(cjk_font(), size)


def _apart(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]
