"""Mend a caption where the paper cleans instead of dropping: escapes, invisible characters, tags.

`mend_characters` undoes escapes until nothing changes, so a rule never reads an escaped text.
`mend_markup` takes out tags and addresses. Both leave a text alone that needs no mending.
"""

import html
import json
import unicodedata
from urllib.parse import unquote

import ftfy
import regex

_MOJIBAKE = regex.compile(r"[ÃÂâåæçèéïðäã][\u0080-\u00bf\u0152-\u02dc\u2013-\u2122]")
# A name without its semicolon counts for seven entities only: `black&gold` is no `&go;ld`.
_ENTITY = regex.compile(
    r"&(?:#[0-9]{1,7};?|#[xX][0-9A-Fa-f]{1,6};?|[A-Za-z][A-Za-z0-9]{1,31};"
    r"|(?:amp|lt|gt|quot|nbsp|copy|reg)(?![A-Za-z0-9=]))"
)
_UNICODE_ESCAPE = regex.compile(r"(?:\\u[0-9A-Fa-f]{4})+")
_SLASHED = regex.compile(r"""\\+(?:(["'/])|[nrt](?![a-z]))""")
_PERCENT = regex.compile(r"%[0-9A-Fa-f]{2}")

# A zero-width space marks the end of a word; the others join what stands beside them.
_WORD_END = regex.compile(r"(?<=[A-Za-z])\u200b+(?=[A-Za-z])")
# Overrides of direction (202D, 202E) stay for a rule to refuse: the text reads otherwise on screen.
_IGNORABLE = regex.compile(
    r"[[\p{Default_Ignorable_Code_Point}\p{Cf}]--[\u202D\u202E]]", regex.V1
)  # fmt: skip
# Private use, unassigned, the stand-in for an object, the blank of Braille: nothing to read.
_BLANK = regex.compile(r"[\p{Co}\p{Cn}\ufffc\u2800]")
_C1 = {n: bytes([n]).decode("cp1252", "replace") for n in range(0x80, 0xA0)}
_C1 = {n: char for n, char in _C1.items() if char != "\ufffd"}

# Letters and digits that stand for others (ligatures, full width, mathematical, old code pages).
# Punctuation keeps its width: Chinese is written with it.
_COMPATIBLE = regex.compile(
    r"[[\p{L}\p{M}\p{Nd}\p{Nl}\u2e80-\u2fdf]--[\p{ASCII}\p{Unified_Ideograph}\u3007]]+", regex.V1
)
_DEGREE = regex.compile(r"(?<=\d)\u00ba")
_APOSTROPHES = regex.compile(r"[\u02b9-\u02bd]")

_HIDDEN = regex.compile(
    r"<(script|style)\b[^<>]{0,2000}>.*?</\1\s*>|<!--.*?-->|<!\[CDATA\[|\]\]>", regex.S | regex.I
)
# The last alternative is a tag that a limit of length has cut off.
_TAG = regex.compile(
    r"</?[A-Za-z][^<>]{0,2000}>|<![A-Za-z][^<>]{0,2000}>|<\?[^<>]{0,2000}>"
    r"|</?[A-Za-z]+\s[^<>]{0,2000}=[^<>]{0,2000}$"
)
_BRACKET_TAG = regex.compile(
    r"\[/?(?:b|i|u|s|url|img|color|size|font|quote|center|caption|gallery|list|embed|left|right)"
    r"(?:[= ][^\[\]]{0,300})?\]",
    regex.I,
)
_ADDRESS = regex.compile(
    r"(?:https?://|www\.)[^\s\u3000-\u303f\uff00-\uffef\u4e00-\u9fff]+", regex.I
)


def mend_characters(text: str) -> tuple[str, list[str]]:
    """Undo mojibake and escapes, take out what cannot be seen, fold letters that stand for others.

    Returns:
      the text, and which mends changed it: mojibake, escape, invisible, compatibility.
    """
    names: dict[str, None] = {}
    while True:  # every turn but the last shortens or folds the text
        before = text
        for name, mend in _CHARACTER_MENDS.items():
            mended = mend(text)
            if mended != text:
                names[name] = None
                text = mended
        if text == before or text.isascii() and not _escaped(text):
            return text, list(names)


def mend_markup(text: str) -> str:
    """Strip tags and web addresses, and fold white space."""
    before = ""
    while text != before:
        before = text
        if "<" in text or "]]>" in text:
            text = _TAG.sub(" ", _HIDDEN.sub(" ", text))
        if "[" in text:
            text = _BRACKET_TAG.sub(" ", text)
        if "://" in text or "www." in text.lower():
            text = _ADDRESS.sub(" ", text)
    return " ".join(text.split())


def _mend_encoding(text: str) -> str:
    """Undo mojibake; only where its typical pairs of characters stand, as ftfy is slow."""
    if text.isascii():
        return text
    if _MOJIBAKE.search(text) is not None:
        text = ftfy.fix_encoding(text)
    return text.translate(_C1)  # Windows' signs in the place of control characters


def _escaped(text: str) -> bool:
    return "&" in text or "\\" in text or "%" in text


def _undo_escapes(text: str) -> str:
    if "&" in text:
        text = _ENTITY.sub(_entity, text)
    if "\\" in text:
        text = _UNICODE_ESCAPE.sub(lambda run: json.loads(f'"{run[0]}"'), text)
        text = _SLASHED.sub(lambda found: found[1] or " ", text)
    if "%" in text and " " not in text and len(_PERCENT.findall(text)) > 1:
        try:
            text = unquote(text, errors="strict")
        except UnicodeDecodeError:
            pass  # percent signs that are none of UTF-8: the text stays as it is
    return text


def _entity(found: regex.Match) -> str:
    entity = found[0]
    return html.unescape(entity if entity.endswith(";") else entity + ";")


def _drop_invisible(text: str) -> str:
    if text.isascii():
        return text
    return _BLANK.sub(" ", _IGNORABLE.sub("", _WORD_END.sub(" ", text)))


def _fold_compatible(text: str) -> str:
    if text.isascii():
        return text
    text = _APOSTROPHES.sub("\u2019", _DEGREE.sub("\u00b0", text))
    folded = _COMPATIBLE.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)
    # A mark belongs to the letter before it, which the run above may lack.
    return unicodedata.normalize("NFC", folded)


_CHARACTER_MENDS = {
    "mojibake": _mend_encoding,
    "escape": _undo_escapes,
    "invisible": _drop_invisible,
    "compatibility": _fold_compatible,
}
