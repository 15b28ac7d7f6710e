"""Pages of a PDF file as pictures, with every line of text and its place in the picture."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pypdfium2 as pdfium
import pypdfium2.raw as raw
from PIL import Image

from data_pipelines.build.ocr.rules import ExtractConfig, judge_size, plain
from data_pipelines.build.sources import Bad
from data_pipelines.schema import Quad, Region

MAX_FILE = 256 << 20  # bytes
_GAP = 2.0  # white space wider than so many line heights parts columns, not words
_FAINT = 40  # levels of grey between a line's lightest and darkest pixel: less is not seen
_HYPHENS = ("\x02", "\ufffe")  # how pdfium marks a hyphen at the end of a line


class Page(NamedTuple):
    number: int  # from 0
    picture: Image.Image
    lines: tuple[Region, ...]  # in the file's order, each with a quadrilateral


class _Letter(NamedTuple):
    text: str
    turn: int  # quarter turns, counter-clockwise, that the letter stands at in the picture
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels


def read_pages(
    path: Path, config: ExtractConfig, *, data: bytes | None = None
) -> Iterator[Page | Bad]:
    """The first pages of a file. What cannot be used comes as `Bad`, and the rest goes on.

    Args:
      data: the PDF that was made of a file of another kind.
    """
    if data is None and path.stat().st_size > MAX_FILE:
        yield Bad("file_too_large", path.name)
        return
    try:
        document = pdfium.PdfDocument(path if data is None else data)
    except (pdfium.PdfiumError, ValueError) as error:
        protected = "password" in str(error).lower()
        yield Bad("encrypted" if protected else "unreadable_pdf", path.name)
        return
    with document:
        for number in range(min(len(document), config.pages_per_file)):
            try:
                yield _page(document, number, config, f"{path.name} page {number + 1}")
            except pdfium.PdfiumError:
                yield Bad("unreadable_page", f"{path.name} page {number + 1}")


def _page(document, number: int, config: ExtractConfig, name: str) -> Page | Bad:
    page = document[number]
    width, height = page.get_size()  # points, after the page's own rotation
    if not (0 < width < math.inf and 0 < height < math.inf):
        return Bad("unreadable_page", name)
    scale = (config.side - 0.001) / max(width, height)  # sides are rounded up
    size = math.ceil(width * scale), math.ceil(height * scale)
    if reason := judge_size(size, config):
        return Bad(reason, name)
    # Notes and form fields are no part of the text that is read below.
    bitmap = page.render(scale=scale, draw_annots=False, may_draw_forms=False)
    picture = bitmap.to_pil().convert("RGB")
    letters = list(_letters(page, bitmap))
    if any(letter.turn < 0 for letter in letters):
        return Bad("slanted_text", name)
    regions = []
    for line in _lines(letters):
        text = plain("".join(letter.text for letter in line))
        boxes = [letter.box for letter in line if not letter.text.isspace()]
        if not text or not boxes:
            continue
        x0, y0 = (min(box[i] for box in boxes) for i in (0, 1))
        x1, y1 = (max(box[i] for box in boxes) for i in (2, 3))
        if x1 <= 0 or y1 <= 0 or x0 >= picture.width or y0 >= picture.height:
            continue  # beside the page: nobody sees it
        if x0 < -1 or y0 < -1 or x1 > picture.width + 1 or y1 > picture.height + 1:
            return Bad("cut_text", name)
        box = max(x0, 0), max(y0, 0), min(x1, picture.width), min(y1, picture.height)
        if box[0] >= box[2] or box[1] >= box[3]:
            return Bad("invisible_text", name)
        low, high = picture.crop(box).convert("L").getextrema()
        if high - low < _FAINT:
            return Bad("invisible_text", name)
        regions.append(Region(text, quads=(_quad(box, line[0].turn, picture.size),)))
    return Page(number, picture, tuple(regions))


def _letters(page, bitmap) -> Iterator[_Letter]:
    """All that pdfium calls a character; line breaks and spaces that it adds have no box."""
    text, place = page.get_textpage(), bitmap.get_posconv(page)
    for index in range(text.count_chars()):
        code = raw.FPDFText_GetUnicode(text, index)
        letter = "-" if chr(code) in _HYPHENS else chr(code)
        if raw.FPDFText_HasUnicodeMapError(text, index) == 1:
            letter = "\ufffd"
        if letter.isspace() or raw.FPDFText_IsGenerated(text, index) == 1:
            yield _Letter(letter, 0, (0, 0, 0, 0))
            continue
        x0, y0, x1, y1 = text.get_charbox(index)
        xs, ys = zip(place.to_bitmap(x0, y0), place.to_bitmap(x1, y1))
        # pdfium's angle is clockwise in the page's own space, which the page may be turned in.
        turns = -raw.FPDFText_GetCharAngle(text, index) / (math.pi / 2) - page.get_rotation() / 90
        turn = round(turns) % 4 if abs(turns - round(turns)) < 0.02 else -1
        yield _Letter(letter, turn, (min(xs), min(ys), max(xs), max(ys)))


def _lines(letters: list[_Letter]) -> Iterator[list[_Letter]]:
    """Runs of letters between line breaks, wide gaps and turns."""
    line: list[_Letter] = []
    last: _Letter | None = None
    for letter in letters:
        if letter.text in "\r\n":
            if line:
                yield line
            line, last = [], None
            continue
        seen = not letter.text.isspace()
        if seen and last is not None and (letter.turn != last.turn or _apart(last, letter)):
            yield line
            line = []
        if line or seen:
            line.append(letter)
        last = letter if seen else last
    if line:
        yield line


def _apart(one: _Letter, other: _Letter) -> bool:
    along, across = (0, 1) if one.turn % 2 == 0 else (1, 0)
    heights = (one.box[across + 2] - one.box[across], other.box[across + 2] - other.box[across])
    gap = max(other.box[along] - one.box[along + 2], one.box[along] - other.box[along + 2])
    return gap > _GAP * max(*heights, 4)


def _quad(box: tuple[int, int, int, int], turn: int, size: tuple[int, int]) -> Quad:
    """Corners from the text's own top-left on, clockwise."""
    x0, y0, x1, y1 = box
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    # Text that was turned counter-clockwise has its top-left where the picture's bottom-left is.
    corners = corners[-turn:] + corners[:-turn]
    return tuple(v / side for corner in corners for v, side in zip(corner, size))
