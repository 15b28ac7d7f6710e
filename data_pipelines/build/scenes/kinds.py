"""Which kinds of object there are, and their names in two languages (from the `emoji` package)."""

import re
from typing import NamedTuple

import emoji

# Common things that look unlike each other at 64 pixels and whose names are short, regular in the
# plural and never part of one another ("cat" rules out the owl, which is a cat-headed eagle in
# Chinese). The first ones come first.
PREFERRED = (
    "1f436 1f431 1f34c 1f3e0 1f697 1f332 1f388 1f34e 1f6b2 1f511 1f355 1f680 1f335 1f438 "
    "1f34b 1f68c 1f3b8 1f349 2602 1f981 1f369 1f33b 1f422 1f451 1f681 1f416 1f345 26f5 "
    "1f3c0 1f34d 1f3a9 1f980 1f339 1f69c 1f354 1f40d 1f98a 1f528 1f3ba 1f350 26fa 1f955 "
    "1f414 1f346 1f36d 1f986 1f308 1f3bb 1f36a 1f4a1 1f40c 1f344 1f692 1f405 1f941 1f334 "
    "1f351 1f56f 1f43b 1f965 1f40a 1f96d 1f42a 260e 1f998 1f337 1f404 1f514 1f982 1f682 "
    "1f984 1fa91 1f985 1f691 1f99c 1f9f2 1f994 1f41d 1f6aa"
).split()

_PLAIN_EN = re.compile(r"[a-z]+( [a-z]+)?")
_HAN = re.compile(r"[\u4e00-\u9fff]{1,5}")
# Faces, hands, signs and geometry have names of a mood or a meaning, not of a thing to be seen.
_NOT_THINGS = frozenset(
    (
        "face button arrow symbol sign circle square heart person hand fist thirty clock button "
        "index skin tone card mark finger fingers hands woman man men women people couple kiss no "
        "cat's emblem suit diamond moon medium large small black white blue purple brown banknote "
        "triangle pointed star"
    ).split()
)
_GRAMMAR_ZH = "上下左右面边有个和在的图中里一两三四物体共"
_GRAMMAR_EN = "and to the left right top bottom above below of on at in there are is two three four"


class Kind(NamedTuple):
    """A kind of object: one glyph and its names."""

    glyph: str  # the character that the font draws
    en: str  # singular; the plural adds s or es, so the singular is always part of it
    zh: str


def all_kinds() -> list[Kind]:
    """Every kind whose names are usable, the preferred ones first.

    No name is part of another name, or of the captions' other words, in either language: finding a
    name in a text by plain substring search is exact.
    """
    emoji.config.load_language("zh")
    named = [kind for glyph, data in emoji.EMOJI_DATA.items() if (kind := _kind(glyph, data))]
    rank = {chr(int(code, 16)): i for i, code in enumerate(PREFERRED)}
    named.sort(key=lambda kind: (rank.get(kind.glyph, len(rank)), kind.glyph))
    chosen: list[Kind] = []
    for kind in named:
        if kind.glyph in rank or not _NOT_THINGS & set(kind.en.split()):
            if not any(_clash(kind, other) for other in chosen):
                chosen.append(kind)
    return chosen


def plural(name: str) -> str:
    """The regular English plural, which every usable kind has."""
    if name in ("tomato", "potato"):
        return name + "es"
    return name + ("es" if name.endswith(("s", "ch", "sh", "x")) else "s")


def _kind(glyph: str, data: dict) -> Kind | None:
    base = glyph.rstrip("\ufe0f")
    if len(base) != 1 or data["status"] > emoji.STATUS["fully_qualified"]:
        return None
    en, zh = (data.get(lang, "").strip(":").replace("_", " ") for lang in ("en", "zh"))
    if not _PLAIN_EN.fullmatch(en) or len(en) > 14 or not _HAN.fullmatch(zh):
        return None
    irregular = en.endswith(
        ("s", "y", "f", "fe", "man", "fish", "mouse", "goose", "ox", "sheep", "foot")
    )
    if irregular and en not in ("monkey", "key", "fox", "cactus", "bus", "old key"):
        return None
    if set(zh) & set(_GRAMMAR_ZH) or any(en in word for word in _GRAMMAR_EN.split()):
        return None
    return Kind(base, en, zh)


def _clash(a: Kind, b: Kind) -> bool:
    return a.en in b.en or b.en in a.en or a.zh in b.zh or b.zh in a.zh
