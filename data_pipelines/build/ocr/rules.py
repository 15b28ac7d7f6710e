"""Which pages of documents are dropped (paper, appendix A.2): each rule a name and a test.

The paper names the rules without their thresholds; those of `ExtractConfig` are ours, as are the
rules that keep labels honest: no letter that cannot be read, no line that cannot be seen.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from data_pipelines.build.language import model_language, script_language
from data_pipelines.schema import Region

Kind = Literal["pdf", "html"]
# A browser's prints of HTML pages are taken for what they show.
_SUFFIXES = {"pdf": (".pdf",), "html": (".html", ".htm", ".xhtml", ".pdf")}
_LATIN_EXTENDED = re.compile("[\u0100-\u024f]")  # A and B
_LIGATURES = re.compile("[\ufb00-\ufb06]")  # drawn as one, written as two or three


class ExtractConfig(NamedTuple):
    """One source of document pages; `python -m data_pipelines.build extract` has a flag for each
    field.
    """

    files: str  # folder of .pdf files, or .html ones, searched below too
    kind: Kind = "pdf"  # html: HTML pages, or PDF files that a browser printed from such
    side: int = 896  # longer side of the picture in pixels
    min_side: int = 224  # shorter side
    min_characters: int = 30  # of a page
    max_characters: int = 2_000
    max_regions: int = 45  # lines of a page: each takes about 45 tokens beside its text
    pages_per_file: int = 20  # the first ones
    processes: int = 0  # 0: one a core; changes nothing about the data


def check(config: ExtractConfig) -> tuple[Path, ...]:
    """The files of a source, in order of their names.

    Raises:
      ValueError: a value is out of range, or the folder has no such file; the message names the
        key.
    """
    if config.kind not in get_args(Kind):
        raise ValueError(f"kind={config.kind!r}: expected pdf or html")
    for key in ("min_side", "min_characters", "max_regions", "pages_per_file"):
        if getattr(config, key) < 1:
            raise ValueError(f"{key}={getattr(config, key)}: must be at least 1")
    if not config.min_side <= config.side <= 4096:
        raise ValueError(f"side={config.side}: expected min_side to 4096")
    if config.max_characters < config.min_characters:
        raise ValueError(f"max_characters={config.max_characters}: is below min_characters")
    if config.processes < 0:
        raise ValueError(f"processes={config.processes}: must not be negative")
    suffixes = _SUFFIXES[config.kind]
    files = tuple(sorted(p for p in Path(config.files).rglob("*") if p.suffix.lower() in suffixes))
    if not files:
        raise ValueError(f"files={config.files}: no {', '.join(suffixes)} file")
    return files


def plain(text: str) -> str:
    """A line as it would be typed: ligatures spelled out, white space single."""
    return " ".join(_LIGATURES.sub(lambda m: unicodedata.normalize("NFKC", m[0]), text).split())


def judge_size(size: tuple[int, int], config: ExtractConfig) -> str | None:
    """The reason to drop a page by the pixels of its picture."""
    return "image_small" if min(size) < config.min_side else None


def judge_text(lines: Sequence[Region], config: ExtractConfig) -> str | None:
    """The reason to drop a page by its text; None where it stays."""
    text = "\n".join(line.phrase for line in lines)
    for reason, wrong in _TEXT_RULES.items():
        if wrong(text, config):
            return reason
    return "too_many_lines" if len(lines) > config.max_regions else None


def _categories(text: str) -> set[str]:
    return {unicodedata.category(c) for c in set(text)}


_TEXT_RULES: dict[str, Callable[[str, ExtractConfig], bool]] = {
    "too_few_characters": lambda text, config: len(text) < config.min_characters,
    "too_many_characters": lambda text, config: len(text) > config.max_characters,
    "private_use": lambda text, _: "Co" in _categories(text),
    # What a font does not say the meaning of comes out as one of these.
    "unreadable_character": lambda text, _: (
        "\ufffd" in text or bool({"Cs", "Cn", "Cc"} & _categories(text.replace("\n", "")))
    ),
    "latin_extended": lambda text, config: (
        config.kind == "pdf" and bool(_LATIN_EXTENDED.search(text))
    ),
}


def language_of(lines: Sequence[Region]) -> str | None:
    """en, zh, or None for neither."""
    text = " ".join(line.phrase for line in lines)
    return script_language(text) or model_language(text)
