"""Fonts that can draw a text: a letter that a font lacks would be drawn as an empty box."""

import functools
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from fontTools.ttLib import TTFont, TTLibError
from PIL import ImageFont

_SUFFIXES = (".ttf", ".otf")
_COVERED = 0.95  # of a sample's characters; tokens with others are left out


def cjk_font() -> str:
    """Noto Sans CJK of the package `cvttf-notosanscjk-regular`: Latin and Chinese letters.

    Raises:
      FileNotFoundError: the package is not installed.
    """
    try:
        files = distribution("cvttf-notosanscjk-regular").files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".otf" and path.is_file():
            return str(path)
    raise FileNotFoundError("fonts: pip install cvttf-notosanscjk-regular==1.0")


def usable_fonts(folder: str, sample: str) -> tuple[str, ...]:
    """The CJK font and the fonts below a folder, those that have the letters of a text.

    Raises:
      ValueError: the folder holds no font, or no font has the letters.
    """
    paths = [cjk_font()]
    if folder:
        found = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in _SUFFIXES)
        if not found:
            raise ValueError(f"fonts={folder}: no .ttf or .otf file")
        paths += map(str, found)
    letters = [c for c in sample if not c.isspace()]
    usable = [p for p in paths if _share(letters, coverage(p)) >= _COVERED]
    if not usable:
        raise ValueError(f"fonts: none of {len(paths)} has {_COVERED:.0%} of the text's letters")
    return tuple(usable)


def _share(letters: Sequence[str], known: Iterable[str]) -> float:
    return sum(c in known for c in letters) / max(len(letters), 1)


@functools.cache
def coverage(path: str) -> frozenset[str]:
    """The characters that a font draws.

    Raises:
      ValueError: it is no font file.
    """
    try:
        with TTFont(path, lazy=True) as font:
            return frozenset(map(chr, font.getBestCmap() or ()))
    except (TTLibError, OSError, AssertionError, ValueError) as error:
        raise ValueError(f"fonts: {path} cannot be read: {error}") from error


@functools.lru_cache(256)
def load(path: str, size: int) -> ImageFont.FreeTypeFont:
    """A font in a size of whole pixels.

    Kerning and ligatures are left to FreeType's own: results do not depend on whether Pillow was
    built with another engine.
    """
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
