"""A sheet of pictures, each with its true and its generated captions underneath."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

CELL, LINE, SIDE, COLUMNS = 420, 20, 160, 3
_WIDE = "\u2e80-\u9fff\uff00-\uffef"  # Chinese, which breaks between any two characters
_PIECES = re.compile(f"[{_WIDE}]|[^ {_WIDE}]* |[^ {_WIDE}]+")


class Entry(NamedTuple):
    image_RR3: UInt8[np.ndarray, "R R 3"]
    lines: Sequence[tuple[str, str]]  # (text, colour)


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines of at most `width` pixels, broken at spaces and between Chinese characters. What cannot
    be drawn (a model may say control characters) becomes U+FFFD.
    """
    lines = []
    for paragraph in text.splitlines():
        shown = "".join(c if c.isprintable() else "\ufffd" for c in paragraph)
        lines += _wrap_one(shown, font, width)
    return lines


def _wrap_one(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines, line = [], ""
    for piece in _PIECES.findall(text):
        if line and font.getlength(line + piece) > width:
            lines.append(line)
            line = ""
        line += piece
    return [*lines, line] if line else lines


def draw_sheet(entries: Sequence[Entry], font_path: str, *, title: str = "") -> Image.Image:
    """Lay the entries out in three columns, under the title where there is one.

    Args:
      font_path: a font with Latin and Chinese glyphs.
    """
    font = ImageFont.truetype(font_path, 14)
    wrapped = [
        [
            (line, colour)
            for text, colour in entry.lines
            for line in wrap(text, font, CELL - SIDE - 30)
        ]
        for entry in entries
    ]
    height = max([SIDE] + [LINE * len(lines) for lines in wrapped]) + 20
    rows = -(-len(entries) // COLUMNS)
    top = LINE + 20 if title else 0
    sheet = Image.new("RGB", (CELL * COLUMNS, height * rows + top), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((10, 10), title, font=font, fill="black")
    for index, (entry, lines) in enumerate(zip(entries, wrapped, strict=True)):
        x, y = CELL * (index % COLUMNS) + 10, height * (index // COLUMNS) + 10 + top
        picture = Image.fromarray(entry.image_RR3).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        sheet.paste(picture, (x, y))
        for number, (line, colour) in enumerate(lines):
            pen.text((x + SIDE + 10, y + LINE * number), line, font=font, fill=colour)
    return sheet
