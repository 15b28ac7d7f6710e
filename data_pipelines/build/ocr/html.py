"""HTML pages printed to PDF, so that `pdf.py` reads them as it reads others.

WeasyPrint lays a page out without a browser: nothing of it runs, and what it names is read from
the source's own folder or left out, never from the network. Its letters come from the CJK font that
is always there and from those of the system that the page asks for.
"""

import atexit
import functools
import logging
import mimetypes
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from PIL import ImageFile

from data_pipelines.build.image_header import read_header, refusal
from data_pipelines.build.ocr.fonts import cjk_font
from data_pipelines.build.ocr.workers import limited_memory
from data_pipelines.build.sources import Bad, read_below

SUFFIXES = (".html", ".htm", ".xhtml")
SHOWN = (".css", ".svg", ".png", ".jpg", ".jpeg", ".webp", ".gif")  # what pages show beside text
MAX_FILE = 4 << 20  # bytes; layout takes seconds for each
MEMORY = 2 << 30  # bytes that a page's layout may take: a table can ask for 10^8 columns
_MARGIN = 32  # CSS pixels around a page that says nothing else
_NO_GLYPH = ".notdef glyph"  # how WeasyPrint's remark on a letter that no font draws begins


class Printed(NamedTuple):
    pdf: bytes
    undrawn: frozenset[str]  # letters that show as empty boxes


def check_installed() -> None:
    """Raises ValueError, saying what to install, where pages cannot be printed."""
    try:
        _weasyprint()
    except (ImportError, OSError) as error:  # OSError: Pango itself is missing
        raise ValueError(
            f"kind=html: needs WeasyPrint (pip install 'qwenvl-jax[html]') and the system's Pango:"
            f" {error}"
        ) from error


def print_page(path: Path, *, root: Path, side: int, pages: int) -> Printed | Bad:
    """A file as PDF pages of three quarters of `side` x `side` CSS pixels; the first ones.

    Args:
      root: the folder outside of which nothing is read.
    """
    if path.stat().st_size > MAX_FILE:
        return Bad("file_too_large", path.name)
    style, fonts = _style(side)
    weasyprint, notes = _weasyprint(), _Notes()
    weasyprint.LOGGER.addHandler(notes)
    try:
        with limited_memory(MEMORY):
            page = weasyprint.HTML(
                string=path.read_bytes(), base_url=path.resolve().as_uri(),
                url_fetcher=_fetcher(root), media_type="screen",
            )  # fmt: skip
            document = page.render(stylesheets=[style], font_config=fonts)
            data = document.copy(document.pages[:pages]).write_pdf()
    except Exception:  # parsers and layout raise nearly anything on what a crawl holds
        return Bad("unreadable_html", path.name)
    finally:
        weasyprint.LOGGER.removeHandler(notes)
    return Printed(data, frozenset(notes.undrawn))


@functools.cache
def _weasyprint():
    # Imported here: it takes a second, and only workers with HTML to read need it.
    import weasyprint

    # It makes Pillow show what there is of pictures that were cut, everywhere in the process.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    return weasyprint


class _Notes(logging.Handler):
    def __init__(self):
        super().__init__()
        self.undrawn: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if str(record.msg).startswith(_NO_GLYPH):
            self.undrawn.add(record.args[0])


@functools.cache
def _style(side: int):
    """Our sheet, which a page's own outranks but for the size, and the fonts with ours among them.

    Loaded once a process. A page cannot add to them: what a fetcher gives it is never a font.
    """
    weasyprint = _weasyprint()
    from weasyprint.text.fonts import FontConfiguration

    fonts = FontConfiguration()
    sheet = (
        f"@font-face {{ font-family: page; src: url({Path(cjk_font()).as_uri()}) }}"
        f"@page {{ size: {side * 3 // 4}px {side}px !important; margin: {_MARGIN}px }}"
        "html { font-family: page }"
    )
    atexit.register(_style.cache_clear)  # later, the fonts could not clean up after themselves
    return weasyprint.CSS(string=sheet, font_config=fonts), fonts


@functools.cache
def _fetcher(root: Path):
    _weasyprint()
    from weasyprint.urls import URLFetcher, URLFetcherResponse

    class Fetcher(URLFetcher):
        """Style sheets and pictures below `root` and from within the page; refuses all else."""

        def fetch(self, url, headers=None):
            parts = urlsplit(url)
            if parts.scheme == "data":
                response = super().fetch(url)
                data, kind = response.read(), response.content_type
            elif parts.scheme == "file" and parts.netloc in ("", "localhost"):
                data = read_below(root, url2pathname(parts.path))
                kind = mimetypes.guess_type(parts.path)[0] or "text/plain"
            else:
                raise ValueError(f"{url}: not fetched")
            if isinstance(data, str):
                raise ValueError(f"{url}: {data}")
            header = read_header(data)
            if header is not None and (reason := refusal(header)):
                raise ValueError(f"{url}: {reason}")
            if header is None and b"\0" in data:
                raise ValueError(f"{url}: neither text nor a picture")
            return URLFetcherResponse(url, data, {"Content-Type": kind})

    return Fetcher()
