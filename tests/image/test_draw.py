"""Outlines in a picture, looked up pixel by pixel."""

import numpy as np
from PIL import Image

from data_pipelines.build.ocr.fonts import cjk_font
from qwenvl_jax.image.draw import draw_outlines


def drawn(outlines, size=(200, 100)):
    """Where the drawing differs from the white picture it was made from."""
    white = Image.new("RGB", size, "white")
    return np.asarray(draw_outlines(white, outlines, cjk_font())).min(-1) < 255, white


def test_a_box_is_where_its_fractions_say():
    """Width and height mixed up, or thousandths taken for pixels, would move an edge."""
    marks, white = drawn([("", (0.25, 0.2, 0.75, 0.8))])
    rows, columns = np.flatnonzero(marks.any(1)), np.flatnonzero(marks.any(0))
    assert (abs(rows[[0, -1]] - [20, 79]) <= 1).all()
    assert (abs(columns[[0, -1]] - [50, 149]) <= 1).all()
    assert not marks[30:70, 60:140].any()
    assert np.asarray(white).min() == 255  # the picture given is left alone


def test_a_quadrilateral_is_not_its_bounding_box():
    marks, _ = drawn([("", (0.5, 0.1, 0.9, 0.5, 0.5, 0.9, 0.1, 0.5))])
    assert marks[10:13, 95:105].any() and not marks[5:20, 10:40].any()


def test_labels_stay_inside_and_share_a_colour_by_phrase():
    """A label of a box at the edge must be readable; Chinese needs a font that has it."""
    boxes = [("狗 dog", (0.0, 0.0, 0.3, 0.4)), ("猫", (0.9, 0.9, 1.0, 1.0))]
    image = np.asarray(draw_outlines(Image.new("RGB", (200, 100), "white"), boxes, cjk_font()))
    assert (image[99, 180:] != 255).any()
    colours = {tuple(c) for c in image.reshape(-1, 3).tolist()} - {(255, 255, 255)}
    assert (0xD5, 0x5E, 0x00) in colours and (0x00, 0x72, 0xB2) in colours
    twice = [("a", (0.1, 0.2, 0.3, 0.4)), ("a", (0.6, 0.6, 0.9, 0.9))]
    image = np.asarray(draw_outlines(Image.new("RGB", (200, 100), "white"), twice, cjk_font()))
    assert not (image == (0x00, 0x72, 0xB2)).all(-1).any()
