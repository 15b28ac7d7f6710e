"""Small PDF files, written by hand: what stands where is known in points."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class PdfPage(NamedTuple):
    content: str  # operators of the page's stream
    size: tuple[int, int] = (600, 800)
    rotate: int = 0


def shown(text: str, x: float, y: float, size: int = 24, matrix: str = "1 0 0 1") -> str:
    """Operators that show a text in Helvetica with its base line's start at x, y."""
    text = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
    return f"BT /F1 {size} Tf {matrix} {x} {y} Tm ({text}) Tj ET\n"


def write_pdf(pages: Sequence[PdfPage], *, meanings: Mapping[str, str] | None = None) -> bytes:
    """A file of pages. `meanings` says what some letters of the font mean, whatever they show."""
    kids = " ".join(f"{5 + 2 * i} 0 R" for i in range(len(pages)))
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding"
    if meanings:
        font += " /ToUnicode 4 0 R"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        f"{font} >>".encode(),
        _stream(_cmap(meanings or {})),
    ]
    for number, page in enumerate(pages):
        width, height = page.size
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Rotate {page.rotate} "
            f"/Resources << /Font << /F1 3 0 R >> >> /Contents {6 + 2 * number} 0 R >>".encode(),
            _stream(page.content),
        ]
    data, offsets = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    start = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    data += b"trailer\n<< /Size %d /Root 1 0 R >>\n" % (len(objects) + 1)
    return data + b"startxref\n%d\n%%%%EOF\n" % start


def _stream(text: str) -> bytes:
    body = text.encode("latin-1")
    return b"<< /Length %d >>\nstream\n" % len(body) + body + b"\nendstream"


def _cmap(meanings: Mapping[str, str]) -> str:
    rows = {chr(code): chr(code) for code in range(32, 127)} | dict(meanings)
    lines = [f"<{ord(c):02x}> <{m.encode('utf-16-be').hex()}>" for c, m in rows.items()]
    return (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap\n"
        "/CMapName /Test def /CMapType 2 def\n"
        "1 begincodespacerange <00> <ff> endcodespacerange\n"
        f"{len(lines)} beginbfchar\n" + "\n".join(lines) + "\nendbfchar\nendcmap end end"
    )
