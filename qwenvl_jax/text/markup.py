"""Boxes and quadrilaterals as text: `(x1,y1),(x2,y2)` with integers in [0, 1000), and back.

Fractions of the picture are floored to thousandths, so a coordinate names the cell of a 1000 x 1000
grid that holds it; going back gives the cell's lower edge, as the released drawing code does (it
divides by 1000).
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

GRID = 1000
_POINT = r"\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)"
_TAG = re.compile(r"<(/?)(ref|box|quad)>")
_POINTS = {"box": 2, "quad": 4}


class Marked(NamedTuple):
    """A phrase of a marked-up text with what follows it, as fractions of the picture."""

    phrase: str
    boxes: tuple[tuple[float, ...], ...] = ()  # x0, y0, x1, y1
    quads: tuple[tuple[float, ...], ...] = ()  # eight numbers, from top-left, clockwise


def format_points(fractions: Sequence[float | int]) -> str:
    """`(0.1, 0.2, 0.5, 1.0)` -> `(100,200),(500,999)`; values outside [0, 1] are clipped.

    Raises:
      ValueError: an odd number of values, or one that is no finite number.
    """
    if len(fractions) % 2 or not all(math.isfinite(v) for v in fractions):
        raise ValueError(f"coordinates {tuple(fractions)}: expected finite x, y pairs")
    cells = [min(max(math.floor(v * GRID), 0), GRID - 1) for v in fractions]
    return ",".join(f"({x},{y})" for x, y in zip(cells[::2], cells[1::2], strict=True))


def parse_points(text: str, *, count: int) -> tuple[float, ...]:
    """`(100,200),(500,999)` with `count` points -> fractions, x and y in turn.

    Raises:
      ValueError: not exactly `count` points of integers in [0, 1000).
    """
    if not re.fullmatch(rf"\s*{_POINT}(\s*,\s*{_POINT}){{{count - 1}}}\s*", text):
        raise ValueError(
            f"coordinates {text!r}: expected {count} points (x,y) with 0 <= x, y < 1000"
        )
    return tuple(int(number) / GRID for number in re.findall(r"\d+", text))


def format_marked(phrase: str, *, boxes: Sequence = (), quads: Sequence = ()) -> str:
    """`<ref>phrase</ref><box>..</box>..<quad>..</quad>..`, in this order and without spaces."""
    parts = [f"<ref>{phrase}</ref>"]
    parts += [f"<box>{format_points(box)}</box>" for box in boxes]
    parts += [f"<quad>{format_points(quad)}</quad>" for quad in quads]
    return "".join(parts)


def parse_marked(text: str) -> tuple[str, list[Marked]]:
    """Read generated markup: (the text without markup, every phrase with its boxes and quads).

    A space may stand inside a tag or outside it (`and<ref> her dog</ref>`); phrases come back
    stripped. Boxes without a phrase before them get the phrase "".

    Raises:
      ValueError: a tag that is not closed, not opened or inside another, or coordinates that do not
        parse.
    """
    plain, marked = "", []
    open_tag, end, near = "", 0, False  # near: a phrase may still take the next box
    for tag in _TAG.finditer(text):
        inner, closing, name = text[end : tag.start()], tag.group(1), tag.group(2)
        if closing and name != open_tag:
            raise ValueError(f"markup {text!r}: {tag.group()} closes no <{name}>")
        if not closing and open_tag:
            raise ValueError(f"markup {text!r}: {tag.group()} inside <{open_tag}>")
        if closing and name == "ref":
            plain += inner
            marked.append(Marked(inner.strip()))
            near = True
        elif closing:
            points = parse_points(inner, count=_POINTS[name])
            if not near:
                marked.append(Marked(""))
                near = True
            field = "boxes" if name == "box" else "quads"
            last = marked[-1]
            marked[-1] = last._replace(**{field: (*getattr(last, field), points)})
        else:
            plain += inner
            near = near and not inner.strip() and name != "ref"
        open_tag, end = "" if closing else name, tag.end()
    if open_tag:
        raise ValueError(f"markup {text!r}: <{open_tag}> is not closed")
    return plain + text[end:], marked


def first_box(text: str) -> tuple[float, ...] | None:
    """The first box of generated markup; None if there is none, or the markup is broken."""
    try:
        _, marked = parse_marked(text)
    except ValueError:  # a model may leave a tag open; that is an answer without a box
        return None
    boxes = [box for entry in marked for box in entry.boxes]
    return boxes[0] if boxes else None
