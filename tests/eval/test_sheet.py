"""The sheet of pictures and captions: every picture and every word has a place."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import ImageFont

from qwenvl_jax.eval import sheet

# Any TrueType font does; this one comes with a package that the plots need anyway.
FONT = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@pytest.mark.parametrize(
    "text",
    [
        "a red bus to the left of two cats and above a hot dog",
        "一只猫在两辆公共汽车的左边和一个热狗的上面",
    ],
)
def test_wrapping_keeps_every_character_and_the_width(text):
    """Lost characters would show captions that the model did not write."""
    font = ImageFont.truetype(FONT, 14)
    lines = sheet.wrap(text, font, 120)
    assert len(lines) > 1
    assert "".join(lines) == text
    assert all(font.getlength(line.rstrip()) <= 120 for line in lines)


def test_english_breaks_between_words():
    """A line that ends inside a word reads as a misspelt caption."""
    text = "several elephants beside umbrellas"
    lines = sheet.wrap(text, ImageFont.truetype(FONT, 14), 100)
    assert [word for line in lines for word in line.split()] == text.split()


def test_empty_text_takes_no_line():
    """A model that generates nothing must not break the sheet."""
    assert sheet.wrap("", ImageFont.truetype(FONT, 14), 100) == []


def test_every_picture_has_its_own_place():
    """Four pictures of one colour each need two rows; none may cover another."""
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)]
    entries = [
        sheet.Entry(np.full((8, 8, 3), colour, np.uint8), [("x", "black")]) for colour in colours
    ]
    pixels = np.asarray(sheet.draw_sheet(entries, FONT))
    assert pixels.shape == (2 * (sheet.SIDE + 20), 3 * sheet.CELL, 3)
    for colour in colours:
        assert (pixels == colour).all(-1).sum() == sheet.SIDE**2


def test_a_long_caption_makes_the_row_higher():
    """Text beyond the picture's height would run into the next row, or off the sheet."""
    entry = sheet.Entry(np.zeros((8, 8, 3), np.uint8), [("many words " * 60, "red")])
    image = sheet.draw_sheet([entry], FONT)
    lines = sheet.wrap(
        "many words " * 60, ImageFont.truetype(FONT, 14), sheet.CELL - sheet.SIDE - 30
    )
    assert image.height >= sheet.LINE * len(lines)
    reds = np.argwhere((np.asarray(image) == (255, 0, 0)).all(-1))
    assert reds[:, 0].max() > sheet.LINE * (len(lines) - 1)  # the last line is on the sheet
    assert reds[:, 0].max() < image.height and reds[:, 1].max() < sheet.CELL


def test_text_that_cannot_be_drawn():
    """A dialogue's question has several lines, a model may say anything: neither may end a run."""
    lines = sheet.wrap("Picture 1:\nwhat\x00is\x1bit", ImageFont.truetype(FONT, 14), 400)
    assert lines == ["Picture 1:", "what\ufffdis\ufffdit"]
