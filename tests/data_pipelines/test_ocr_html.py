"""If these break, lines of HTML pages are labelled wrongly, or pages reach what they must not."""

import http.server
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from data_pipelines.build.ocr import html
from data_pipelines.build.ocr.extract import FileTask, _pages, extract
from data_pipelines.build.ocr.rules import ExtractConfig
from data_pipelines.build.shards import verify
from data_pipelines.build.sources import Bad
from data_pipelines.stream.source import read_records
from qwenvl_jax.image.decode import ImageError, decode

try:
    html.check_installed()
except ValueError as missing:
    pytest.skip(str(missing), allow_module_level=True)

ENGLISH = ("All human beings are born free", "and equal in dignity and rights.")
CHINESE = ("人人生而自由,", "在尊严和权利上一律平等。")
COLOURS = ((200, 0, 0), (0, 150, 0), (0, 0, 220), (160, 0, 160))


@pytest.fixture
def read(tmp_path):
    folder = tmp_path / "pages"
    folder.mkdir()

    def read(page, **settings):
        (folder / "a.html").write_text(f"<meta charset=utf-8>{page}", "utf-8")
        config = ExtractConfig(str(folder), kind="html", **settings)
        return list(_pages(FileTask(folder / "a.html", config, tmp_path / "a.part")))

    return read


def ink(picture: Image.Image) -> np.ndarray:
    """Where the picture is anything but white."""
    return np.asarray(picture).min(axis=2) < 250


def reaches(mask_HW: np.ndarray) -> tuple[int, int, int, int]:
    ys, xs = np.nonzero(mask_HW)
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


def test_every_line_is_where_its_ink_is(read):
    """Each line in a colour of its own, found by looking: so box and words cannot be swapped."""
    lines = [*ENGLISH, *CHINESE]
    spans = "<br>".join(
        f"<span style='color: rgb{colour}; font-size: {18 + 9 * n}px'>{line}</span>"
        for n, (line, colour) in enumerate(zip(lines, COLOURS))
    )
    (page,) = read(f"<p style='margin-left: 40px'>{spans}</p>")
    assert [line.phrase for line in page.lines] == lines
    pixels_HW3 = np.asarray(page.picture).astype(int)
    covered_HW = np.zeros(pixels_HW3.shape[:2], bool)
    for line, colour in zip(page.lines, COLOURS):
        quad_42 = np.array(line.quads[0]).reshape(4, 2) * page.picture.size
        (x0, y0), (x1, y1) = quad_42.min(0), quad_42.max(0)
        np.testing.assert_allclose(quad_42.ravel(), [x0, y0, x1, y0, x1, y1, x0, y1])
        own_HW = np.abs(pixels_HW3 - colour).sum(axis=2) < 150
        np.testing.assert_allclose((x0, y0, x1, y1), reaches(own_HW), atol=2.5)
        covered_HW[int(y0) - 2 : int(y1) + 3, int(x0) - 2 : int(x1) + 3] = True
    assert not (ink(page.picture) & ~covered_HW).any()  # nothing without a label


def test_pages_are_of_our_size_and_cut_into_several(read):
    page = "<style>@page { size: 90px 90px; margin: 0 }</style>" + "<p>word</p>" * 60
    pages = read(page, side=600)
    assert len(pages) > 2 and all(page.picture.size == (450, 600) for page in pages)
    assert len(read(page, side=600, pages_per_file=2)) == 2


def png(width: int, height: int, colour: int) -> bytes:
    """Black or white, written by hand: a side of any length takes a few bytes."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes([colour]) * min(width, 99)) * min(height, 99))
    parts = [(b"IHDR", head), (b"IDAT", rows), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_a_page_reads_its_own_folder_alone(read, tmp_path):
    """What lies beside it is shown; what lies elsewhere or is too large is as if it were not."""
    folder = tmp_path / "pages"
    big = "p {{ font-size: {}px }}"
    (folder / "in.css").write_text(big.format(40))
    (tmp_path / "out.css").write_text(big.format(90))
    (folder / "link.css").symlink_to(tmp_path / "out.css")
    (folder / "dot.png").write_bytes(png(60, 60, 0))
    (folder / "bomb.png").write_bytes(png(90_000, 90_000, 0))

    def height(head: str, body: str = "") -> int:
        (page,) = read(f"{head}<p>word</p>{body}")
        x0, y0, x1, y1 = reaches(ink(page.picture))
        return y1 - y0

    plain = height("")
    assert height("<link rel=stylesheet href=in.css>") > 2 * plain
    outside = (tmp_path / "out.css").as_uri()
    for url in ("../out.css", "link.css", outside, outside.replace("file://", "file://localhost")):
        assert height(f"<link rel=stylesheet href='{url}'>") == plain
        assert height(f"<style>@import '{url}'</style>") == plain
    assert height("", "<img src=dot.png>") > plain + 50
    assert height("", "<img src=bomb.png>") == plain
    assert height("", "<object data=/etc/hostname></object>") == plain


def test_nothing_is_fetched(read):
    """A crawl's pages name millions of addresses, and some would tell who reads them."""
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{server.server_port}"
        (page,) = read(
            f"<base href='{at}/base/'><link rel=stylesheet href='{at}/a.css'>"
            f"<style>@import '{at}/b.css'; @font-face {{ font-family: f; src: url({at}/f.ttf) }}"
            f"body {{ font-family: f; background: url({at}/c.png) }}</style>"
            f"<script>document.write('scripted')</script><script src='{at}/d.js'></script>"
            f"<p>All human beings<img src='e.png'><iframe src='{at}/g'></iframe>"
            f"<svg width=9 height=9><image href='{at}/h.png' width=9 height=9 /></svg></p>"
        )
        server.shutdown()
    assert not asked
    assert [line.phrase for line in page.lines] == ["All human beings"]


def test_pictures_that_were_cut_are_still_refused(read):
    """The library wants Pillow to show them: training would take them for whole ever after."""
    read("<p>All human beings are born free<img src=dot.png>")
    with pytest.raises(ImageError, match="truncated"):
        decode(png(60, 60, 0)[:60], 8)


def test_a_letter_that_no_font_draws_drops_its_page(read):
    (bad,) = read("<p>All human beings \u0378</p>")  # it shows as an empty box
    assert bad == Bad("undrawn_character", "a.html page 1")


def test_pages_that_break_the_layout(read, monkeypatch):
    """Millions of columns, and elements nested deeper than any stack."""
    monkeypatch.setattr(html, "MEMORY", 200 << 20)
    unreadable = [Bad("unreadable_html", "a.html")]
    assert read("<table><td colspan=99999999>x") == unreadable
    assert read("<div>" * 2000 + "x") == unreadable
    (page,) = read("<p>All human beings</p>")  # there is memory again
    assert [line.phrase for line in page.lines] == ["All human beings"]


def test_a_source(tmp_path):
    folder = tmp_path / "pages"
    (folder / "b").mkdir(parents=True)
    english, chinese = " ".join(ENGLISH), "".join(CHINESE) * 3

    def page(name, text):
        (folder / name).write_text(f"<meta charset=utf-8><p>{text}</p>", "utf-8")

    page("a.html", english)
    page("b/c.HTM", chinese)
    page("d.xhtml", f"{english} za\u017c\u00f3\u0142\u0107")  # letters that PDF pages may not have
    page("e.html", "few")
    page("f.html", f"{english} \ue000")
    page("g.html", f"<span style='color: white'>{english}</span>")
    (folder / "h.html").write_bytes(b" " * (5 << 20))
    config = ExtractConfig(str(folder), kind="html", processes=1)
    outcome = extract(config, tmp_path / "out")
    assert outcome.records == {"html_en": 2, "html_zh": 1}
    assert outcome.rejected == {
        "file_too_large": 1, "invisible_text": 1, "too_few_characters": 1, "undrawn_character": 1,
    }  # fmt: skip
    assert outcome == extract(config, tmp_path / "out")  # finished: told again, not made again
    records = read_records(tmp_path / "out" / "html_en", limit=9)
    assert [r.key for r in records] == ["html/a.html/0", "html/d.xhtml/0"]
    assert records[1].regions[-1].phrase.endswith("za\u017c\u00f3\u0142\u0107")
    (record,) = read_records(tmp_path / "out" / "html_zh", limit=9)
    assert "".join(region.phrase for region in record.regions) == chinese
    for name in outcome.records:
        verify(tmp_path / "out" / name)
