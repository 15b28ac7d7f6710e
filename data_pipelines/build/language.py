"""English, Chinese or another language: by scripts and common words, else by a model.

A text in Latin letters is English where enough of its words are common English ones. Otherwise
lingua compares the languages of Latin script; that costs half a millisecond.
"""

import functools

import regex

from data_pipelines.build.english_words import ENGLISH, OTHERS, PARTICLES, SHARED

_HAN = regex.compile(r"\p{Han}+")
_LATIN = regex.compile(r"[A-Za-z]+")
# A Han character says about as much as a word of some four letters, and Chinese captions carry
# Latin brand names; between the two shares the script does not decide.
_SURELY_ZH, _SURELY_EN = 0.4, 0.1
# Words that join an English text; names and brands beside Chinese have none.
_JOINING = frozenset(
    "a an the of in on at with and for from by to is are was were this that his her their".split()
)
_WORD = regex.compile(r"\p{Latin}[\p{Latin}\p{M}'’]*")
_NAME_WORDS = ENGLISH | PARTICLES
_ENOUGH_ENGLISH = 0.3  # share of words that settles the question without the model
# How much likelier than English another language must be; see `foreign_language`.
_RATIO = 4.0
_LANGUAGES = (
    "ENGLISH", "SPANISH", "GERMAN", "FRENCH", "INDONESIAN", "ITALIAN", "DUTCH", "PORTUGUESE",
    "POLISH", "TURKISH", "SWEDISH", "DANISH", "BOKMAL", "FINNISH", "ROMANIAN", "CZECH", "HUNGARIAN",
    "VIETNAMESE", "TAGALOG", "CATALAN",
)  # fmt: skip

_INITIAL = "zh|ch|sh|[bpmfdtnlgkhjqxrzcsyw]"
_FINAL = (
    "iang|iong|uang|ang|eng|ing|ong|uai|iao|ian|uan|ai|ei|ao|ou|an|en|in|un|ia|ie|iu|ua|uo|ui|ue"
    "|ve|er|a|e|i|o|u|v"
)
_PINYIN = regex.compile(rf"(?:(?:{_INITIAL})(?:{_FINAL})|ang|ai|an|ao|er|en|e|ou|a){{1,4}}")
# Sounds that English spelling hardly has.
_CHINESE_SOUND = regex.compile(
    r"zh|x[iu]|q[iu]|^[cz]a|ngx|uo|iao|iang|iong|uang|u[ei]\b|ian\b|ie\b|sh[aeiu]ng?\b"
)


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


def caption_language(text: str) -> str | None:
    """ "en" or "zh" for a caption that both scripts may stand in; None where neither is seen.

    Latin words count one each, as a Han character does. Names and brands beside Chinese make no
    English: for that the text must join its words in English.
    """
    han = sum(map(len, _HAN.findall(text)))
    if not han:
        return "en" if any(map(str.isalpha, text)) else None
    words = [word.lower() for word in _LATIN.findall(text)]
    joining = sum(word in _JOINING for word in words)
    if han >= len(words) or not words:
        return "zh"
    if joining >= 2 or joining and 3 * han <= len(words):
        return "en"
    if han >= 2 and not joining:
        return "zh"
    return model_language(text)


def foreign_language(text: str) -> bool:
    """Whether a text in Latin letters is of another language than English.

    Common English words settle most texts. Otherwise another language must be likelier than English
    by a ratio: lower where its own small words are seen, higher for English words and for texts of
    capitalised words alone, which are names or titles of goods.
    """
    if _surely_english(text):
        return False
    spelled = _WORD.findall(text)
    words = [word.lower() for word in spelled]
    if not words:
        return False
    english = sum(word in ENGLISH for word in words)
    others = sum(word in OTHERS for word in words)
    others += sum(word in PARTICLES for word in spelled) / 2
    telling = sum(len(word) > 1 and word not in SHARED for word in words)
    if telling < 3 and others < 1:  # two words are a name as often as not
        return False
    ratio = _RATIO
    if not any(w.islower() and len(w) > 2 and w not in _NAME_WORDS for w in spelled):
        if len(words) < 5 and others < 1:
            return False  # a name, as of a person or a place
        ratio *= 12
    ratio *= 3.0**english / 2.0 ** min(others, 4)
    if len(words) < 4:
        ratio *= 2
    best, own = _latin_confidence(" ".join(words))
    return best > max(ratio, 1.2) * own


def pinyin(text: str) -> bool:
    """Whether a text is Chinese in Latin letters without tones."""
    if _surely_english(text):
        return False
    spelled = _LATIN.findall(text)
    words = [word.lower() for word in spelled]
    if len(words) < 4 or sum(word in ENGLISH for word in words) * 4 > len(words):
        return False
    fitting = [word for word in words if _PINYIN.fullmatch(word)]
    if len(fitting) < 0.9 * len(words):
        return False
    sounds = sum(_CHINESE_SOUND.search(word) is not None for word in fitting)
    # Without such sounds, long words in small letters: names are capitalised.
    small = not any(map(str.istitle, spelled)) and not any(word in ENGLISH for word in words)
    return sounds >= 2 or small and sum(map(len, words)) >= 14


def _surely_english(text: str) -> bool:
    """Enough common English words, and more of them than small words of other languages."""
    words = [word for word in text.lower().split() if word not in SHARED]
    english = sum(word in ENGLISH for word in words)
    if not english or english < _ENOUGH_ENGLISH * len(words):
        return False
    return english > sum(word in OTHERS for word in words)


def model_language(text: str) -> str | None:
    """ "en" or "zh" by lingua's n-gram models; None where it finds no sign of either."""
    found = _detector(("ENGLISH", "CHINESE")).detect_language_of(text)
    return None if found is None else found.iso_code_639_1.name.lower()


def _latin_confidence(text: str) -> tuple[float, float]:
    """Of the likeliest language but English, and of English."""
    values = _detector(_LANGUAGES).compute_language_confidence_values(text)
    found = {value.language.name: value.value for value in values}
    own = found.pop("ENGLISH")
    return max(found.values()), max(own, 1e-6)


@functools.cache
def _detector(languages: tuple[str, ...]):
    # Imported here: the package is 90 MB and few texts need it.
    from lingua import Language, LanguageDetectorBuilder

    chosen = [getattr(Language, name) for name in languages]
    return LanguageDetectorBuilder.from_languages(*chosen).build()
