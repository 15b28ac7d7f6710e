"""If these break, lines of a PDF page are labelled wrongly, or pages stay that the rules drop."""

import io

import numpy as np
import pytest
from PIL import Image

from data_pipelines.build.ocr.extract import extract
from data_pipelines.build.ocr.pdf import Page, read_pages
from data_pipelines.build.ocr.rules import ExtractConfig
from data_pipelines.build.shards import read_manifest, verify
from data_pipelines.build.sources import Bad
from data_pipelines.stream.source import read_records
from tests.data_pipelines.pdf_data import PdfPage, shown, write_pdf

LINES = ("All human beings are born free", "and equal in dignity and rights.")
TEXT = shown(LINES[0], 60, 700) + shown(LINES[1], 60, 660)


@pytest.fixture
def read(tmp_path):
    def read(*pages, meanings=None, **settings):
        path = tmp_path / "a.pdf"
        path.write_bytes(write_pdf(pages, meanings=meanings))
        return list(read_pages(path, ExtractConfig(str(tmp_path), side=800, **settings)))

    return read


def ink(picture: Image.Image, box=None) -> tuple[int, int, int, int]:
    """Where the picture is dark: x0, y0, x1, y1 in pixels, by looking."""
    grey_HW = np.asarray(picture.convert("L"))
    if box is not None:
        masked_HW = np.full_like(grey_HW, 255)
        x0, y0, x1, y1 = (round(v) for v in box)
        masked_HW[y0:y1, x0:x1] = grey_HW[y0:y1, x0:x1]
        grey_HW = masked_HW
    ys, xs = np.nonzero(grey_HW < 128)
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


def pixels(page: Page, index: int) -> np.ndarray:
    return np.array(page.lines[index].quads[0]).reshape(4, 2) * page.picture.size


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_places_are_those_of_the_ink(read, rotate):
    """One line a page, whatever way the page is turned: the quad is what is seen, and its first
    corner is the text's own.
    """
    (page,) = read(PdfPage(shown("Rights (of man)", 60, 700), rotate=rotate))
    assert [line.phrase for line in page.lines] == ["Rights (of man)"]
    assert page.picture.size == ((600, 800) if rotate % 180 == 0 else (800, 600))
    quad_42 = pixels(page, 0)
    box = (*quad_42.min(0), *quad_42.max(0))
    np.testing.assert_allclose(box, ink(page.picture), atol=2)
    # The text begins near (60, 700 + its height) of the page before it was turned.
    start = {0: (60, 82), 90: (718, 60), 180: (540, 718), 270: (82, 540)}[rotate]
    np.testing.assert_allclose(quad_42[0], start, atol=5)
    along = quad_42[1] - quad_42[0]
    assert np.argmax(abs(along)) == (rotate // 90) % 2
    turn = np.cross(np.append(along, 0), np.append(quad_42[3] - quad_42[0], 0))[2]
    assert turn > 0  # clockwise, as y points down


@pytest.mark.parametrize(
    ("matrix", "first"), [("0 1 -1 0", "bottom-left"), ("0 -1 1 0", "top-right")]
)
def test_turned_text(read, matrix, first):
    """Beside a figure: upwards text starts at the bottom."""
    (page,) = read(PdfPage(shown("sideways", 300, 400, matrix=matrix)))
    (line,) = page.lines
    quad_42 = pixels(page, 0)
    x0, y0, x1, y1 = ink(page.picture)
    corner = {"bottom-left": (x0, y1), "top-right": (x1, y0)}[first]
    np.testing.assert_allclose(quad_42[0], corner, atol=2)
    assert line.phrase == "sideways"


def test_lines_and_columns(read):
    content = TEXT + shown("left", 60, 600) + shown("right column", 400, 600)
    (page,) = read(PdfPage(content))
    assert [line.phrase for line in page.lines] == [*LINES, "left", "right column"]
    left = pixels(page, 2)
    np.testing.assert_allclose(
        ink(page.picture, (0, 170, 300, 215)), (*left.min(0), *left.max(0)), atol=2
    )


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (PdfPage(shown("slanted", 100, 300, matrix="0.7 0.7 -0.7 0.7")), "slanted_text"),
        (PdfPage("1 1 1 rg " + TEXT), "invisible_text"),
        (PdfPage(TEXT + "0 0 0 rg 0 600 600 200 re f"), "invisible_text"),
        (PdfPage("3 Tr " + TEXT), "invisible_text"),
        (PdfPage(shown("over the edge of the page", 500, 700)), "cut_text"),
        (PdfPage(TEXT, size=(600, 100)), "image_small"),
    ],
)
def test_pages_whose_labels_would_lie(read, page, reason):
    (bad,) = read(page)
    assert bad == Bad(reason, "a.pdf page 1")


def test_text_beside_the_page_is_not_seen(read):
    (page,) = read(PdfPage(TEXT + shown("printer's marks", 700, 700)))
    assert [line.phrase for line in page.lines] == list(LINES)


def test_a_source(tmp_path):
    """Every rule at least once, files in order, counts in the manifest."""
    folder = tmp_path / "pdf"
    (folder / "b").mkdir(parents=True)
    letters = {"#": "\ue000", "$": "\u0142", "%": "中", "&": "\ufb01", "@": "\ufffd"}

    def pdf(name, *contents):
        pages = [PdfPage(content) for content in contents]
        (folder / name).write_bytes(write_pdf(pages, meanings=letters))

    many = "".join(shown("line", 60, 780 - 12 * n, size=10) for n in range(50))
    pdf("a.pdf", TEXT, "", TEXT + shown("$", 60, 100), TEXT + shown("#", 60, 100), many)
    pdf("b/c.pdf", shown("%" * 20, 20, 700), TEXT + shown("&x", 60, 100), shown("%" * 9, 20, 9))
    pdf(
        "d.pdf",
        *[shown("x " * 40, 10, 780 - 9 * n, size=8) for n in range(1)],
        TEXT + shown("@", 9, 9),
    )
    (folder / "x.pdf").write_bytes(b"%PDF-1.7 and then nothing")
    (folder / "b" / "y.PDF").write_bytes(b"")
    config = ExtractConfig(str(folder), min_characters=15, max_characters=300, processes=1)
    outcome = extract(config, tmp_path / "out")
    assert outcome.rejected == {
        "latin_extended": 1, "private_use": 1, "too_few_characters": 2, "too_many_lines": 1,
        "unreadable_character": 1, "unreadable_pdf": 2,
    }  # fmt: skip
    assert outcome.examples["unreadable_pdf"] == ["b/y.PDF", "x.pdf"]
    assert outcome.records == {"pdf_en": 3, "pdf_zh": 1}
    english = read_records(tmp_path / "out" / "pdf_en", limit=9)
    assert [r.key for r in english] == ["pdf/a.pdf/0", "pdf/b/c.pdf/1", "pdf/d.pdf/0"]
    assert english[1].regions[2].phrase == "fix"  # a ligature is written as it is typed
    assert [r.phrase for r in english[0].regions] == list(LINES)
    picture = Image.open(io.BytesIO(english[0].images[0]))
    assert max(picture.size) == 896 and picture.format == "JPEG"
    (chinese,) = read_records(tmp_path / "out" / "pdf_zh", limit=9)
    assert chinese.regions[0].phrase == "中" * 20 and chinese.language == "zh"
    for name in outcome.records:
        verify(tmp_path / "out" / name)
        assert read_manifest(tmp_path / "out" / name)["rejected"] == outcome.rejected
    # HTML pages keep the letters that PDF pages lose; processes change nothing.
    html = extract(config._replace(kind="html", processes=2), tmp_path / "html")
    assert html.records == {"html_en": 4, "html_zh": 1}
    assert "latin_extended" not in html.rejected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(files="absent"), "files=absent"),
        (dict(kind="xml"), "kind='xml'"),
        (dict(side=100), "side=100"),
        (dict(max_characters=5), "max_characters=5"),
        (dict(pages_per_file=0), "pages_per_file=0"),
        (dict(processes=-1), "processes=-1"),
        (dict(min_characters=1000), "not one page could be used.*too_few_characters"),
    ],
)
def test_what_a_user_may_get_wrong(tmp_path, change, message):
    (tmp_path / "a.pdf").write_bytes(write_pdf([PdfPage(TEXT)]))
    config = ExtractConfig(str(tmp_path), processes=1)
    with pytest.raises(ValueError, match=message):
        extract(config._replace(**change), tmp_path / "out")
