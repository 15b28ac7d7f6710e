"""Words on signs: short, common, and drawn large enough to be read at 64 pixels."""

import functools
import math
import random
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from data_pipelines.build.ocr.fonts import cjk_font
from data_pipelines.build.scenes.captions import Language

WORDS = {
    "en": (
        "open shop milk exit stop taxi park fish cake book blue gold moon west east home sale cafe "
        "bank menu soup rice food road lane gate door left wood rain snow wind fire lake "
        "farm bird king club mall"
    ).split(),
    "zh": (
        "开门 商店 牛奶 出口 停车 公园 书店 蓝天 月光 西山 东海 回家 米饭 银行 饭店 菜单 鱼汤 "
        "大路 山门 木桥 下雨 白雪 风车 火山 湖水 农田 小鸟 国王 花园 茶馆 药房 学校 车站 机场"
    ).split(),
}
_HEIGHT = (0.3, 0.4)  # of a sign, as a share of the picture
_TILT = 6.0  # degrees, at most
_DRAWN = 4  # a sign is drawn so many times larger, then shrunk
_TRIES = 60
_PAINTS = (((255, 255, 255), (20, 20, 20)), ((250, 220, 60), (20, 20, 20)),
           ((20, 70, 150), (255, 255, 255)), ((170, 25, 30), (255, 255, 255)))  # fmt: skip


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

    def bounds(self) -> tuple[float, float, float, float]:
        xs, ys = zip(*self.corners(), strict=True)
        return min(xs), min(ys), max(xs), max(ys)


def place_signs(rng: random.Random, *, language: Language, image_size: int) -> tuple[Sign, ...]:
    """One sign or two that lie in the picture and touch each other nowhere, from top to bottom."""
    signs: list[Sign] = []
    for word in rng.sample(WORDS[language], rng.choice((1, 1, 2))):
        for _ in range(_TRIES):
            height = rng.uniform(*_HEIGHT) * image_size
            width = height * _length(word)
            tilt, paint = rng.uniform(-_TILT, _TILT), rng.randrange(len(_PAINTS))
            center = tuple(rng.uniform(s / 2, image_size - s / 2) for s in (width, height))
            new = Sign(word, center, (width, height), tilt, paint)
            x0, y0, x1, y1 = new.bounds()
            inside = min(x0, y0) >= 0 and max(x1, y1) <= image_size
            if inside and all(_apart(new.bounds(), sign.bounds()) for sign in signs):
                signs.append(new)
                break
    signs.sort(key=lambda sign: (sign.center[1], sign.center[0]))
    return tuple(signs)


def says(words: Sequence[str], language: Language) -> str:
    """`a sign that says open`, `写着开门和牛奶的牌子`: the caption of a picture of signs."""
    if language == "zh":
        return f"写着{'和'.join(words)}的牌子"
    return ("a sign that says " if len(words) == 1 else "signs that say ") + " and ".join(words)


def draw_signs(signs: tuple[Sign, ...], under: Image.Image) -> Image.Image:
    """The signs on a copy of `under`."""
    picture = under.copy()
    for sign in signs:
        whole = tuple(side * _DRAWN for side in picture.size)
        layer = Image.new("RGBA", whole)
        board, ink = _PAINTS[sign.paint]
        x, y = (c * _DRAWN for c in sign.center)
        w, h = (s * _DRAWN for s in sign.size)
        drawing = ImageDraw.Draw(layer)
        drawing.rectangle((x - w / 2, y - h / 2, x + w / 2, y + h / 2), fill=board)
        font = _font(round(0.75 * h))
        drawing.text((x, y), sign.word, font=font, fill=ink, anchor="mm")
        # Pillow turns counter-clockwise.
        layer = layer.rotate(-sign.tilt, Image.Resampling.BICUBIC, center=(x, y))
        layer = layer.resize(picture.size, Image.Resampling.BOX)
        picture.paste(layer, (0, 0), layer)
    return picture


@functools.cache
def _length(word: str) -> float:
    """Width of a word's sign over its height."""
    return 0.75 * _font(100).getlength(word) / 100 + 0.2


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(cjk_font(), size)


def _apart(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]
