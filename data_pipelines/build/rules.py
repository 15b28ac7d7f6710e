"""The cleaning rules of the paper (appendix A.1) as small named functions over one pair.

A rule answers "is this pair to be dropped?"; thresholds come from the source's config, as the paper
gives none. `RULES` runs from top to bottom, cheapest first, nothing is decoded, and the first rule
that says yes gives the reject its name. Where the paper mends a text instead of dropping it,
`text_mend.py` and `text_credit.py` do: escapes, invisible characters, HTML, web addresses, credits.
"""

import dataclasses
from collections.abc import Callable

import regex

from data_pipelines.build import language, text_boilerplate, text_credit, text_rules
from data_pipelines.build.image_header import ImageHeader, read_header
from data_pipelines.build.language import caption_language, script_language
from data_pipelines.build.settings import SourceSettings
from data_pipelines.build.text_credit import cut_credit
from data_pipelines.build.text_mend import mend_characters, mend_markup

_SPECIAL = regex.compile(r"<\|[^|<>]{1,40}\|>|</?(?:img|ref|box|quad)>|<imgpad>")
# Control characters except tab and line ends, overrides of direction, halves of a surrogate pair.
_CONTROL = regex.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202d\u202e\ud800-\udfff]")
_EMOJI = regex.compile(
    r"[\p{Extended_Pictographic}--[©®™‼⁉ℹ↔↕〰〽㊗㊙]]|[\U0001F1E6-\U0001F1FF\u20e3]", regex.V1
)
# Any letter that is neither of the English alphabet nor Han; marks belong to letters.
_FOREIGN = regex.compile(r"[[\p{L}\p{M}]--[A-Za-z\p{Han}]]|\uFFFD", regex.V1)
_FOREIGN_BUT_ACCENTS = regex.compile(r"[[\p{L}\p{M}]--[\p{Latin}\p{Han}]]|\uFFFD", regex.V1)
# A number's unit is no foreign word: 5 µm, 10 kΩ.
_UNIT_SIGN = regex.compile(r"(?<=\d\s?)(?:[µμ](?=[A-Za-z])|[kM]?[Ωω](?![\p{Greek}]))")
_UNIT = regex.compile(r"[0-9A-Za-z]+|\S")
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


def foreign_character(pair: Pair, settings: SourceSettings) -> bool:
    """The paper's letter drops a name with an accent too; a source's `accents` keeps it."""
    if pair.text.isascii():
        return False
    foreign = _FOREIGN_BUT_ACCENTS if settings.accents else _FOREIGN
    return foreign.search(_UNIT_SIGN.sub("", pair.text)) is not None


def text_too_short(pair: Pair, settings: SourceSettings) -> bool:
    return len(pair.text) < settings.min_characters


def text_too_long(pair: Pair, settings: SourceSettings) -> bool:
    return len(pair.text) > settings.max_characters


def file_name(pair: Pair, _: SourceSettings) -> bool:
    return text_rules.file_name(pair.text)


def identifier(pair: Pair, _: SourceSettings) -> bool:
    return text_rules.identifier(pair.text)


def boilerplate(pair: Pair, _: SourceSettings) -> bool:
    return text_boilerplate.boilerplate(pair.text)


def credit(pair: Pair, _: SourceSettings) -> bool:
    """A credit at the end of a caption is cut off before; this text is nothing else."""
    return text_credit.is_credit(pair.text)


def contact(pair: Pair, _: SourceSettings) -> bool:
    return text_rules.contact(pair.text)


def hashtags(pair: Pair, _: SourceSettings) -> bool:
    return text_rules.hashtags(pair.text)


def keyword_list(pair: Pair, _: SourceSettings) -> bool:
    return text_rules.keyword_list(pair.text)


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


def other_language(pair: Pair, settings: SourceSettings) -> bool:
    """Not the language of the source: English in a Chinese one, or Chinese in an English one."""
    pair.language = caption_language(pair.text)
    return pair.language != settings.language


def pinyin(pair: Pair, _: SourceSettings) -> bool:
    return pair.language == "en" and language.pinyin(pair.text)


def foreign_language(pair: Pair, _: SourceSettings) -> bool:
    """Neither English nor Chinese, though its letters are English ones."""
    return pair.language == "en" and language.foreign_language(pair.text)


# The text as it was found: its length is bounded before anything works on it.
ON_RAW: tuple[Rule, ...] = (
    image_format, aspect_ratio, image_too_small, image_too_large, image_cmyk, image_16bit,
    image_animated, clip_score, text_too_long,
)  # fmt: skip
# Escapes are undone and what cannot be seen is out; tags still stand.
ON_CHARACTERS: tuple[Rule, ...] = (
    special_token, placeholder, control_character, emoji, foreign_character, text_too_short,
)  # fmt: skip
ON_CAPTION: tuple[Rule, ...] = (
    text_too_short, text_too_long, no_letters, file_name, identifier, boilerplate, credit, contact,
    hashtags, keyword_list, repeated_words, other_language, pinyin, foreign_language,
)  # fmt: skip


def apply(pair: Pair, settings: SourceSettings) -> tuple[str | None, list[str]]:
    """Run the rules over a pair and mend its text.

    Returns:
      the name of the rule that drops the pair, None for a pair that stays and has its `language`;
      and the names of the mends that changed its text.
    """
    mended: list[str] = []
    for rule in ON_RAW:
        if rule(pair, settings):
            return rule.__name__, mended
    pair.text, mended = mend_characters(pair.text)
    for rule in ON_CHARACTERS:
        if rule(pair, settings):
            return rule.__name__, mended
    for name, mend in (("markup", mend_markup), ("credit", cut_credit)):
        text = mend(pair.text)
        if len(text) != len(pair.text):
            mended.append(name)
        pair.text = text
    pair.language = script_language(pair.text)
    for rule in ON_CAPTION:
        if rule(pair, settings):
            return rule.__name__, mended
    return None, mended
