"""Places in generated text: `<ref>phrase</ref><box>(x1,y1),(x2,y2)</box>`.

Coordinates are integers in [0, 1000), thousandths of the image.
"""

import re
from typing import NamedTuple

GRID = 1000
_POINT = r"\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)"
_TAG = re.compile(r"<(/?)(ref|box|quad)>")
_POINTS = {"box": 2, "quad": 4}


class Marked(NamedTuple):
    """A phrase of a marked-up text and its places, as fractions of the image."""

    phrase: str
    boxes: tuple[tuple[float, ...], ...] = ()  # x0, y0, x1, y1
    quads: tuple[tuple[float, ...], ...] = ()  # eight numbers, from top-left, clockwise


def parse(text: str) -> tuple[str, list[Marked]]:
    """(the text without markup, every phrase with its boxes and quadrilaterals).

    Places without a phrase before them get the phrase "".

    Raises:
      ValueError: a tag that is not closed, not opened or inside another, or broken coordinates.
    """
    plain, marked = "", []
    opened, end, near = "", 0, False  # near: the last phrase may still take the next place
    for tag in _TAG.finditer(text):
        inner, closing, name = text[end : tag.start()], tag.group(1), tag.group(2)
        if closing and name != opened:
            raise ValueError(f"markup {text!r}: {tag.group()} closes no <{name}>")
        if not closing and opened:
            raise ValueError(f"markup {text!r}: {tag.group()} inside <{opened}>")
        if not closing:
            plain += inner
            near = near and not inner.strip() and name != "ref"
        elif name == "ref":
            plain += inner
            marked.append(Marked(inner.strip()))
            near = True
        else:
            if not near:
                marked.append(Marked(""))
                near = True
            field = "boxes" if name == "box" else "quads"
            places = (*getattr(marked[-1], field), _points(inner, _POINTS[name]))
            marked[-1] = marked[-1]._replace(**{field: places})
        opened, end = "" if closing else name, tag.end()
    if opened:
        raise ValueError(f"markup {text!r}: <{opened}> is not closed")
    return plain + text[end:], marked


def _points(text: str, count: int) -> tuple[float, ...]:
    if not re.fullmatch(rf"\s*{_POINT}(\s*,\s*{_POINT}){{{count - 1}}}\s*", text):
        raise ValueError(
            f"coordinates {text!r}: expected {count} points (x,y) with 0 <= x, y < {GRID}"
        )
    return tuple(int(number) / GRID for number in re.findall(r"\d+", text))
