"""Boxes and quadrilaterals drawn into a picture, with their phrases."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

# Told apart by people who see red and green alike (Okabe and Ito, 2008).
_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def draw_outlines(
    picture: Image.Image,
    outlines: Sequence[tuple[str, Sequence[float]]],
    font_path: str,
) -> Image.Image:
    """A copy of `picture` with every outline and its label; one colour for one label.

    Args:
      outlines: (label, x and y in turn as fractions of the picture): four numbers are two corners
        of a box, eight are a quadrilateral.
      font_path: a font with Latin and Chinese glyphs.
    """
    drawn = picture.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    side = max(min(drawn.size), 64)
    font = ImageFont.truetype(font_path, max(10, side // 24))
    labels = list(dict.fromkeys(label for label, _ in outlines))
    for label, points in outlines:
        colour = _COLOURS[labels.index(label) % len(_COLOURS)]
        corners = _corners(points, drawn.size)
        pen.line([*corners, corners[0]], fill=colour, width=max(1, side // 150))
        if label:
            _write(pen, label, corners, font, colour, drawn.size)
    return drawn


def _corners(points: Sequence[float], size: tuple[int, int]) -> list[tuple[float, float]]:
    if len(points) == 4:
        x0, y0, x1, y1 = points
        points = (x0, y0, x1, y0, x1, y1, x0, y1)
    return [
        (x * (size[0] - 1), y * (size[1] - 1))
        for x, y in zip(points[::2], points[1::2], strict=True)
    ]


def _write(pen, label: str, corners, font, colour: str, size: tuple[int, int]) -> None:
    """Above the outline where there is room, else just inside; never outside the picture."""
    left, top, right, bottom = pen.textbbox((0, 0), label, font=font)
    x = min(min(x for x, _ in corners), size[0] - right)
    y = min(y for _, y in corners)
    y = y - bottom if y >= bottom else y
    at = (max(x, 0), max(y, 0))
    pen.rectangle((at[0], at[1], at[0] + right, at[1] + bottom), fill=colour)
    pen.text(at, label, font=font, fill="white")
