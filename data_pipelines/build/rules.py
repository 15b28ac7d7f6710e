"""The cleaning rules of the paper (appendix A.1) as small named functions over one pair.

A rule answers "is this pair to be dropped?"; thresholds come from the source's config, as the paper
gives none. `RULES` runs from top to bottom, cheapest first, nothing is decoded, and the first rule
that says yes gives the reject its name. Two of the paper's steps mend a text instead of dropping
it: HTML is stripped and web addresses are removed; lengths are then taken again.
"""

import dataclasses
import html
from collections.abc import Callable

import ftfy
import regex

from data_pipelines.build.image_header import ImageHeader, read_header
from data_pipelines.build.language import script_language
from data_pipelines.build.settings import SourceSettings

_SPECIAL = regex.compile(r"<\|[^|<>]{1,40}\|>|</?(?:img|ref|box|quad)>|<imgpad>")
# Control characters except tab and line ends, and those that turn the direction of writing.
_CONTROL = regex.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_EMOJI = regex.compile(
    r"[\p{Extended_Pictographic}--[©®™‼⁉ℹ↔↕〰〽㊗㊙]]|[\U0001F1E6-\U0001F1FF]", regex.V1
)
# Any letter that is neither of the English alphabet nor Han; marks belong to letters.
_FOREIGN = regex.compile(
    r"[[\p{L}\p{M}]--[A-Za-z\p{Han}\uFF21-\uFF3A\uFF41-\uFF5A\uFE0F]]|\uFFFD", regex.V1
)
_MOJIBAKE = regex.compile(r"[ÃÂâåæçèéïðäã][\u0080-\u00bf\u0152-\u02dc\u2013-\u2122]")
_TAG = regex.compile(r"<!--.*?-->|</?[A-Za-z][^<>]{0,2000}>", regex.S)
_ADDRESS = regex.compile(r"(?:https?://|www\.)[^\s\u3000-\u303f\uff00-\uffef\u4e00-\u9fff]+")
_FILE_NAME = regex.compile(
    r"\S{0,200}\.(?:jpe?g|png|gif|webp|bmp|tiff?|svg)|(?:IMG|DSC[NF]?|image|photo|P)[-_ ]?\d{2,}",
    regex.I,
)
_BOILERPLATE = regex.compile(
    r"click (?:here|to (?:enlarge|view|zoom))|image not (?:found|available)|no image available"
    r"|all rights reserved|lorem ipsum|add to (?:cart|wishlist)|stock (?:photo|image|vector) #?\d"
    r"|点击(?:查看|放大|进入)|暂无图片|版权所有|加入购物车",
    regex.I,
)
_UNIT = regex.compile(r"[0-9A-Za-z]+|\S")
_TELLTALE = ("click", "image", "rights", "lorem", "add to", "stock", "点击", "暂无", "版权", "加入")
_PLACEHOLDER = regex.compile(r"<(?:PERSON|LOC|ORG|NAME|URL|EMAIL|NUMBER)>", regex.I)


@dataclasses.dataclass(slots=True)
class Pair:
    """A picture and its text on the way through the rules; `text` may be mended on the way."""

    key: str
    image: bytes
    text: str
    clip_score: float | None = None
    header: ImageHeader | None = None
    language: str | None = None  # None: the script does not decide


Rule = Callable[[Pair, SourceSettings], bool]


def image_format(pair: Pair, _: SourceSettings) -> bool:
    pair.header = read_header(pair.image)
    return pair.header is None


def image_too_small(pair: Pair, settings: SourceSettings) -> bool:
    return min(pair.header.width, pair.header.height) < settings.min_side


def image_too_large(pair: Pair, settings: SourceSettings) -> bool:
    return pair.header.width * pair.header.height > settings.max_pixels


def aspect_ratio(pair: Pair, settings: SourceSettings) -> bool:
    short, long = sorted(pair.header[:2])
    return long > settings.max_aspect * short


def image_cmyk(pair: Pair, _: SourceSettings) -> bool:
    return pair.header.form == "cmyk"


def image_16bit(pair: Pair, _: SourceSettings) -> bool:
    return pair.header.form == "16bit"


def image_animated(pair: Pair, _: SourceSettings) -> bool:
    return pair.header.form == "animated"


def clip_score(pair: Pair, settings: SourceSettings) -> bool:
    """A pair without a score passes unless the source demands one."""
    if pair.clip_score is None:
        return settings.require_clip_score
    return not pair.clip_score >= settings.min_clip_score  # a NaN is dropped too


def placeholder(pair: Pair, _: SourceSettings) -> bool:
    """The stand-ins for names in CC12M and SBU."""
    return "<" in pair.text and _PLACEHOLDER.search(pair.text) is not None


def special_token(pair: Pair, _: SourceSettings) -> bool:
    """A caption that spells a token of the model's own markup would be read as markup."""
    return "<" in pair.text and _SPECIAL.search(pair.text) is not None


def control_character(pair: Pair, _: SourceSettings) -> bool:
    # Printable text, the common case, is told by one pass in C.
    return not pair.text.isprintable() and _CONTROL.search(pair.text) is not None


def emoji(pair: Pair, _: SourceSettings) -> bool:
    return not pair.text.isascii() and _EMOJI.search(pair.text) is not None


def foreign_character(pair: Pair, _: SourceSettings) -> bool:
    return not pair.text.isascii() and _FOREIGN.search(pair.text) is not None


def text_too_short(pair: Pair, settings: SourceSettings) -> bool:
    return len(pair.text) < settings.min_characters


def text_too_long(pair: Pair, settings: SourceSettings) -> bool:
    return len(pair.text) > settings.max_characters


def file_name(pair: Pair, _: SourceSettings) -> bool:
    return _FILE_NAME.fullmatch(pair.text) is not None


def boilerplate(pair: Pair, _: SourceSettings) -> bool:
    # Each phrase holds one of these words; looking for a word costs a twentieth of the pattern.
    folded = pair.text.lower()
    return any(word in folded for word in _TELLTALE) and _BOILERPLATE.search(folded) is not None


def repeated_words(pair: Pair, settings: SourceSettings) -> bool:
    """The share of the text's n-grams that are repeats; Chinese counts by character, a number or a
    Latin word in it as one.
    """
    parts = _UNIT.findall(pair.text) if pair.language == "zh" else pair.text.split()
    n = settings.repeat_ngram
    total = len(parts) - n + 1
    if total < 4:
        return False
    # Every word but the last ones begins an n-gram, so many words clear a text without counting.
    if 1 - (len(set(parts)) - n + 1) / total <= settings.max_repeated:
        return False
    distinct = len(set(zip(*(parts[i:] for i in range(n)))))
    return 1 - distinct / total > settings.max_repeated


def no_letters(pair: Pair, _: SourceSettings) -> bool:
    """Digits and signs alone are no caption."""
    return not any(map(str.isalpha, pair.text))


BEFORE_MENDING: tuple[Rule, ...] = (
    image_format, aspect_ratio, image_too_small, image_too_large, image_cmyk, image_16bit,
    image_animated, clip_score, special_token, placeholder, control_character, emoji,
    foreign_character, text_too_short, text_too_long,
)  # fmt: skip
AFTER_MENDING: tuple[Rule, ...] = (
    text_too_short, file_name, no_letters, boilerplate, repeated_words,
)  # fmt: skip


def mend_encoding(text: str) -> str:
    """Undo mojibake; only where its typical pairs of characters stand, as ftfy is slow."""
    if text.isascii() or _MOJIBAKE.search(text) is None:
        return text
    return ftfy.fix_encoding(text)


def mend_markup(text: str) -> str:
    """Strip HTML tags, entities and web addresses, and fold white space."""
    if "<" in text:
        text = _TAG.sub(" ", text)
    if "&" in text:
        text = html.unescape(text)
    if "://" in text or "www." in text:
        text = _ADDRESS.sub(" ", text)
    return " ".join(text.split())


def apply(pair: Pair, settings: SourceSettings) -> tuple[str | None, list[str]]:
    """Run the rules over a pair and mend its text.

    Returns:
      the name of the rule that drops the pair, None for a pair that stays with `language` still
      None where its script does not decide; and the names of the mends that changed its text.
    """
    mended = []
    text = mend_encoding(pair.text)
    if text != pair.text:
        mended.append("mojibake")
        pair.text = text
    for rule in BEFORE_MENDING:
        if rule(pair, settings):
            return rule.__name__, mended
    text = mend_markup(pair.text)
    if len(text) != len(pair.text):
        mended.append("markup")
    pair.text = text
    # An entity can spell what was looked for before: `&lt;|endoftext|&gt;`.
    again = (special_token, control_character, emoji, foreign_character) if mended else ()
    pair.language = script_language(text)
    for rule in (*again, *AFTER_MENDING):
        if rule(pair, settings):
            return rule.__name__, mended
    return None, mended
