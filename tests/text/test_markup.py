"""If these break, boxes are written to other places than they stand, or generated boxes are
misread.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenvl_jax.text.markup import format_marked, format_points, parse_marked, parse_points

CELL = st.integers(0, 999)
FRACTION = st.floats(0, 1, allow_nan=False)


@given(st.lists(FRACTION, min_size=4, max_size=4))
def test_written_cell_holds_the_point(box):
    """Off by one thousandth at 448 px is half a pixel in every box of the data."""
    back = parse_points(format_points(box), count=2)
    for value, cell in zip(box, back, strict=True):
        assert cell <= min(value, 0.999) + 1e-9 and value - cell <= 0.001 + 1e-9


@given(st.lists(st.tuples(CELL, CELL, CELL, CELL), max_size=3), st.text("ab 猫", min_size=1))
def test_round_trip(cells, phrase):
    """What is written must read back, any number of boxes after a phrase."""
    boxes = tuple(tuple((c + 0.5) / 1000 for c in box) for box in cells)
    plain, (marked,) = parse_marked("x " + format_marked(phrase, boxes=boxes) + " y")
    assert plain == f"x {phrase} y" and marked.phrase == phrase.strip()
    assert marked.boxes == tuple(tuple(c / 1000 for c in box) for box in cells)


def test_spaces_inside_and_outside_the_tag():
    """The released model writes the space inside the tag, the paper outside."""
    inside = parse_marked("and<ref> her dog</ref><box> (1,2), (3,4) </box>")
    outside = parse_marked("and <ref>her dog</ref> <box>(1,2),(3,4)</box>")
    assert inside[1] == outside[1] and inside[1][0].boxes == ((0.001, 0.002, 0.003, 0.004),)


def test_clipped_and_phraseless():
    assert format_points((-0.5, 0.0, 1.0, 7.0)) == "(0,0),(999,999)"
    plain, marked = parse_marked("<box>(1,2),(3,4)</box> a <box>(5,6),(7,8)</box>")
    assert [m.phrase for m in marked] == ["", ""] and plain == " a "


@pytest.mark.parametrize(
    "text",
    [
        "<ref>a",
        "a</ref>",
        "<ref>a<box>(1,2),(3,4)</box></ref>",
        "<ref>a</box>",
        "<box>(1,2)</box>",
        "<box>(1,2),(3,1000)</box>",
        "<box>(1,2),(3,-4)</box>",
        "<quad>(1,2),(3,4)</quad>",
    ],
)
def test_broken_markup_is_refused(text):
    """Guessing at half a box would score a model for what it did not say."""
    with pytest.raises(ValueError, match="markup|coordinates"):
        parse_marked(text)
    with pytest.raises(ValueError, match="finite"):
        format_points((float("nan"), 0.0))
