"""Images as the model sees them, and places drawn into them.

An image is judged by its header before its pixels are decoded, converted to RGB over white, and
resized to R x R by Pillow's bicubic filter. Its aspect ratio is not kept; its orientation tag is
ignored. Training does the same.
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MAX_PIXELS = 89_478_485
MAX_ASPECT = 20.0
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
# Told apart by people who see red and green alike (Okabe and Ito, 2008).
_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def pixels(image: Any, size: int, *, name: str = "image") -> np.ndarray:
    """RGB bytes (size, size, 3), uint8.

    Args:
      image: a PIL image, a path, a file's bytes, or RGB bytes as an array (H, W, 3).
      name: what an error calls the image, beside its path.

    Raises:
      ValueError: it does not decode, or is of a kind that training refuses; names it and says why.
    """
    return np.asarray(rgb(image, name=name).resize((size, size), Image.Resampling.BICUBIC))


def rgb(image: Any, *, name: str = "image") -> Image.Image:
    """The image in RGB at its own size; arguments and errors as of `pixels`."""
    name, opened = _open(image, name)
    fault = _fault(opened)
    if fault:
        raise ValueError(f"{name}: {fault}")
    try:
        opened.load()
        if opened.has_transparency_data:
            over = opened.convert("RGBA")
            white = Image.new("RGBA", over.size, (255, 255, 255, 255))
            return Image.alpha_composite(white, over).convert("RGB")
        return opened.convert("RGB")
    except Exception as error:  # on damaged bytes, Pillow's decoders raise nearly anything
        raise ValueError(f"{name}: damaged: {type(error).__name__}: {error}") from error


def _open(image: Any, name: str) -> tuple[str, Image.Image]:
    if isinstance(image, Image.Image):
        return name, image
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"{name}: an array of {image.dtype} {image.shape}; wanted is uint8 (H, W, 3)"
            )
        return name, Image.fromarray(image)
    if isinstance(image, (str, os.PathLike)):
        name = f"{name} ({image})"
        try:
            image = Path(image).read_bytes()
        except OSError as error:
            raise ValueError(f"{name}: {error.strerror or error}") from error
    if not isinstance(image, bytes):
        raise ValueError(
            f"{name}: {type(image).__name__} is no PIL image, path, bytes or uint8 array"
        )
    try:
        opened = Image.open(io.BytesIO(image))
    except Exception as error:  # on damaged headers, Pillow's parsers raise nearly anything
        raise ValueError(f"{name}: {len(image)} bytes that are no image: {error}") from error
    if opened.format not in _FORMATS:
        raise ValueError(f"{name}: {opened.format} is none of {', '.join(_FORMATS)}")
    return name, opened


def _fault(image: Image.Image) -> str:
    width, height = image.size
    if width * height > MAX_PIXELS:
        return f"{width} x {height} pixels, allowed are {MAX_PIXELS}"
    if max(width, height) > MAX_ASPECT * min(width, height):
        return f"{width} x {height} pixels, allowed is {MAX_ASPECT:g} to 1"
    if image.mode not in _MODES:
        return f"pixels of mode {image.mode}, which have no agreed way to 8 bits"
    # MPO is what many phones write as .jpg: the photograph, then smaller copies of it.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        return f"animated, {getattr(image, 'n_frames', 0)} frames"
    return ""


def draw(
    image: Image.Image,
    outlines: Sequence[tuple[str, Sequence[float]]],
    *,
    font: str | None = None,
) -> Image.Image:
    """A copy of an RGB image with every outline and its label; one colour a label.

    Args:
      outlines: (label, x and y in turn as fractions): two corners of a box, or four of a
        quadrilateral.
      font: a font file; None: Pillow's own, which lacks Chinese.
    """
    drawn = image.copy()
    pen, side = ImageDraw.Draw(drawn), max(min(drawn.size), 64)
    height = max(10, side // 24)
    face = ImageFont.truetype(font, height) if font else ImageFont.load_default(height)
    labels = list(dict.fromkeys(label for label, _ in outlines))
    for label, points in outlines:
        colour = _COLOURS[labels.index(label) % len(_COLOURS)]
        if len(points) == 4:
            x0, y0, x1, y1 = points
            points = (x0, y0, x1, y0, x1, y1, x0, y1)
        corners = [
            (x * (drawn.width - 1), y * (drawn.height - 1))
            for x, y in zip(points[::2], points[1::2], strict=True)
        ]
        pen.line([*corners, corners[0]], fill=colour, width=max(1, side // 150))
        if label:
            _write(pen, label, corners, face, colour, drawn.size)
    return drawn


def _write(pen, label: str, corners, font, colour: str, size: tuple[int, int]) -> None:
    """Above the outline where there is room, else just inside; never outside the image."""
    _, _, right, bottom = pen.textbbox((0, 0), label, font=font)
    x = min(min(x for x, _ in corners), size[0] - right)
    y = min(y for _, y in corners)
    at = (max(x, 0), max(y - bottom if y >= bottom else y, 0))
    pen.rectangle((at[0], at[1], at[0] + right, at[1] + bottom), fill=colour)
    pen.text(at, label, font=font, fill="white")
