"""A small grammar that says in English and Chinese what stands in a scene.

A caption is a list of chunks (joined without anything between them); chunk borders are where a
tokenizer should not glue words together. Objects are named from left to right, equal ones together
with their number.
"""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from data_pipelines.build.scenes.glyphs import Glyph
from data_pipelines.build.scenes.kinds import Kind, plural
from data_pipelines.build.scenes.layout import Scene

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
PLAIN_LAYOUTS = ("list", "there")  # every kind may appear in these
RELATION_LAYOUTS = ("relation", "sides")  # held-out kinds appear in these in the test split only
_NUMBERS = {"en": ("", "a", "two", "three", "four"), "zh": ("", "一", "两", "三", "四")}


class Caption(NamedTuple):
    layout: str
    chunks: list[str]

    @property
    def text(self) -> str:
        return "".join(self.chunks)


def choose_layout(
    scene: Scene, rng: random.Random, *, held_out: frozenset[int], allow_held_out: bool
) -> str:
    """One of the layouts that fit the scene.

    Relations need two single objects, in training of kinds that are not held out.
    """
    kinds = [thing.glyph for thing in scene.objects]
    related = len(kinds) == 2 and kinds[0] != kinds[1]
    if related and (allow_held_out or not held_out & set(kinds)):
        return rng.choice((*PLAIN_LAYOUTS, *RELATION_LAYOUTS))
    return rng.choice(PLAIN_LAYOUTS)


def caption(scene: Scene, glyphs: Sequence[Glyph], *, layout: str, language: Language) -> Caption:
    """The caption of a scene in one layout."""
    counts = Counter(thing.glyph for thing in scene.objects)  # keeps left-to-right order
    phrases = [phrase(glyphs[g].kind, n, language) for g, n in counts.items()]
    write = _ENGLISH if language == "en" else _CHINESE
    return Caption(layout, write[layout](phrases, scene))


def phrase(kind: Kind, count: int, language: Language) -> list[str]:
    """Chunks of "a dog", "two dogs", "两个狗"."""
    if language == "zh":
        return [_NUMBERS["zh"][count] + "个", kind.zh]
    if count > 1:
        # The ending is a chunk of its own, so that one token names a kind, however many there are.
        return [_NUMBERS["en"][count], " " + kind.en, plural(kind.en).removeprefix(kind.en)]
    vowel = kind.en[0] in "aeiou" and not kind.en.startswith("uni")
    return ["an" if vowel else "a", " " + kind.en]


def _listing(phrases: list[list[str]], comma: str, last: str, space: str = "") -> list[str]:
    chunks: list[str] = []
    for i, said in enumerate(phrases):
        if i:
            chunks.append(last if i == len(phrases) - 1 else comma)
        chunks += [space + said[0], *said[1:]] if i else said
    return chunks


def _relation(scene: Scene) -> tuple[bool, bool]:
    """(side by side rather than one above the other, the second is the lower one)."""
    (x0, y0), (x1, y1) = (thing.center for thing in scene.objects)
    return abs(x1 - x0) >= abs(y1 - y0), y1 > y0


def _list_en(phrases, scene):
    return _listing(phrases, ",", " and", " ")


def _there_en(phrases, scene):
    verb = "is" if phrases[0][0] in ("a", "an") else "are"
    first, *rest = _listing(phrases, ",", " and", " ")
    return ["there", f" {verb}", " " + first, *rest]


def _relation_en(phrases, scene):
    beside, lower = _relation(scene)
    words = [" to the left of"] if beside else [" above"] if lower else [" below"]
    return [*phrases[0], *words, " " + phrases[1][0], *phrases[1][1:]]


def _sides_en(phrases, scene):
    beside, lower = _relation(scene)
    upright = ("top", "bottom") if lower else ("bottom", "top")
    first, second = ("left", "right") if beside else upright
    at = "on" if beside else "at"
    start = [*phrases[0], f" {at} the {first} and"]
    return [*start, " " + phrases[1][0], *phrases[1][1:], f" {at} the {second}"]


def _list_zh(phrases, scene):
    return _listing(phrases, "、", "和")


def _there_zh(phrases, scene):
    return ["图中有", *_listing(phrases, "、", "和")]


def _relation_zh(phrases, scene):
    beside, lower = _relation(scene)
    side = "左边" if beside else "上面" if lower else "下面"
    return [*phrases[0], "在", *phrases[1], "的" + side]


def _sides_zh(phrases, scene):
    beside, lower = _relation(scene)
    first, second = ("左", "右") if beside else ("上", "下") if lower else ("下", "上")
    return [f"{first}边是", *phrases[0], "，", f"{second}边是", *phrases[1]]


_ENGLISH = {"list": _list_en, "there": _there_en, "relation": _relation_en, "sides": _sides_en}
_CHINESE = {"list": _list_zh, "there": _there_zh, "relation": _relation_zh, "sides": _sides_zh}
