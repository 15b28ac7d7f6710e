"""Where the lines of a page stand: columns of paragraphs in varied fonts, sizes and alignments."""

import random
from collections.abc import Sequence
from typing import NamedTuple

from data_pipelines.build.ocr import fonts
from data_pipelines.build.ocr.config import RenderConfig
from data_pipelines.build.ocr.corpus import Token

_TWO_COLUMNS = 0.3  # how often, where there is room
_LETTERS = 8  # a column has room for so many wide letters at least


class Run(NamedTuple):
    """Text that is drawn at once and labelled as one. Pixels of the paper."""

    text: str
    font: str  # path
    size: int
    x: int  # where the pen starts, on the base line
    y: int
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 of the ink


class _Style(NamedTuple):
    font: str
    size: int
    align: float  # 0 left, 0.5 centred, 1 right
    leading: float  # from base line to base line, in sizes


def lay_out(
    tokens: Sequence[Token],
    rng: random.Random,
    *,
    config: RenderConfig,
    faces: Sequence[str],
    width: int,
    height: int,
    scale: int,
) -> list[Run]:
    """Runs in reading order, all of whose ink is on a paper of width x height pixels.

    Args:
      tokens: text enough; what does not fit is left.
      faces: paths of fonts.
      scale: the picture's shorter side, which the size of letters is a share of.
    """
    base = round(scale * rng.uniform(config.size_min, config.size_max))
    margin = round(min(width, height) * rng.uniform(0.03, 0.1))
    gap = margin
    count = 1
    if (width - 2 * margin - gap) / 2 > 1.5 * _LETTERS * base and rng.random() < _TWO_COLUMNS:
        count = 2
    column = (width - 2 * margin - gap * (count - 1)) // count
    runs: list[Run] = []
    at = 0
    for index in range(count):
        left, y = margin + index * (column + gap), margin
        while at < len(tokens) and len(runs) < config.regions:
            style = _style(rng, base, faces)
            known = fonts.coverage(style.font)
            full = False
            for _ in range(rng.randint(1, 6)):
                font = fonts.load(style.font, style.size)
                baseline = y + font.getmetrics()[0]
                full = baseline + font.getmetrics()[1] > height - margin
                if full:
                    break
                line, at = _line(tokens, at, known, font, column)
                if line:
                    x = left + round((column - font.getlength(_join(line))) * style.align)
                    runs += _runs(line, style, x, baseline, config.unit)
                y += round(style.size * style.leading)
            if full:
                break
            y += round(style.size * rng.uniform(0.2, 1.0))
    inside = [run for run in runs if _inside(run.box, width, height)]
    return inside[: config.regions]


def _style(rng: random.Random, base: int, faces: Sequence[str]) -> _Style:
    size = max(4, round(base * rng.choice((0.8, 1.0, 1.0, 1.0, 1.3))))
    align = rng.choice((0.0, 0.0, 0.0, 0.5, 1.0))
    return _Style(rng.choice(faces), size, align, rng.uniform(1.15, 1.7))


def _line(tokens, at: int, known, font, width: int) -> tuple[list[Token], int]:
    """(what fits on a line, the token after it). Tokens that the font cannot draw, or that are
    wider than a line, are left out.
    """
    line: list[Token] = []
    while at < len(tokens):
        token = tokens[at]
        fits = font.getlength(_join([*line, token])) <= width
        if known.issuperset(token.text) and fits:
            line.append(token)
        elif line and not fits:
            break
        at += 1
    return line, at


def _join(line: Sequence[Token]) -> str:
    return "".join(token.space + token.text for token in line).strip()


def _runs(line: Sequence[Token], style: _Style, x: int, y: int, unit: str) -> list[Run]:
    if unit == "line":
        return _ink(_join(line), style, x, y)
    # Tokens without a space between them are one word.
    words: list[str] = []
    for token in line:
        if token.space or not words:
            words.append(token.text)
        else:
            words[-1] += token.text
    font, runs, pen = fonts.load(style.font, style.size), [], float(x)
    for word in words:
        runs += _ink(word, style, round(pen), y)
        pen += font.getlength(word + " ")
    return runs


def _ink(text: str, style: _Style, x: int, y: int) -> list[Run]:
    """A run; none where its letters are drawn blank."""
    # The font's own bounding box holds the space beside the first and last letter too.
    mask, (left, top) = fonts.load(style.font, style.size).getmask2(text, "L", anchor="ls")
    box = mask.getbbox()
    if box is None:
        return []
    x0, y0, x1, y1 = box
    box = (x + left + x0, y + top + y0, x + left + x1, y + top + y1)
    return [Run(text, style.font, style.size, x, y, box)]


def _inside(box: tuple[int, int, int, int], width: int, height: int) -> bool:
    return 0 <= box[0] and 0 <= box[1] and box[2] <= width and box[3] <= height
