"""English or Chinese: by the share of Han characters, by a model only where that is undecided."""

import functools

import regex

_HAN = regex.compile(r"\p{Han}+")
_LATIN = regex.compile(r"[A-Za-z]+")
# A Han character says about as much as a word of some four letters, and Chinese captions carry
# Latin brand names; between the two shares the script does not decide.
_SURELY_ZH, _SURELY_EN = 0.4, 0.1


def script_language(text: str) -> str | None:
    """ "en", "zh", or None where the mixture of scripts leaves it open.

    A text without a letter of either script is None too.
    """
    if text.isascii():
        return "en"
    han = sum(map(len, _HAN.findall(text)))
    latin = sum(map(len, _LATIN.findall(text)))
    if not han + latin:
        return None
    share = han / (han + latin)
    if share >= _SURELY_ZH:
        return "zh"
    return "en" if share < _SURELY_EN else None


def model_language(text: str) -> str | None:
    """ "en" or "zh" by lingua's n-gram models; None where it finds no sign of either."""
    found = _detector().detect_language_of(text)
    return None if found is None else found.iso_code_639_1.name.lower()


@functools.cache
def _detector():
    # Imported here: the package is 90 MB and few texts need it.
    from lingua import Language, LanguageDetectorBuilder

    return LanguageDetectorBuilder.from_languages(Language.ENGLISH, Language.CHINESE).build()
