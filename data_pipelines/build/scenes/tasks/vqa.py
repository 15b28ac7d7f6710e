"""Counting ("How many dogs are there?") and relations ("Where is the dog relative to the car?")."""

import random
from itertools import permutations
from typing import Any, NamedTuple

from data_pipelines.build.scenes.kinds import plural
from data_pipelines.build.scenes.tasks.view import View

NUMBERS = {
    "en": ("zero", "one", "two", "three", "four"),
    "zh": ("零个", "一个", "两个", "三个", "四个"),
}
SIDES = {
    "en": {"left": "left", "right": "right", "above": "above", "below": "below"},
    "zh": {"left": "左边", "right": "右边", "above": "上面", "below": "下面"},
}
_CLEAR = 1.5  # a side is asked for only where one distance is so many times the other
_ABSENT = 0.15  # share of a dialogue's counting questions about a kind that is not there
FORMS: dict[str, tuple[int | str, ...]] = {
    "count": (0, 1, 2, 3),
    "relation": ("left", "right", "above", "below"),
}


class Wanted(NamedTuple):
    """A question's form and its answer, drawn before the scene: no answer is likelier than others,
    so one who does not look is right in a quarter of all cases.
    """

    form: str
    answer: int | str


def want(rng: random.Random, relations: float = 0.5) -> Wanted:
    """A question of either form; `relations` is the share of those."""
    form = "relation" if rng.random() < relations else "count"
    return Wanted(form, rng.choice(FORMS[form]))


def askable(view: View, wanted: Wanted) -> list[tuple[int, ...]]:
    """The kinds, or pairs of them, of which a question of this form has this answer."""
    if wanted.form == "count":
        shown = view.counts()
        return [(g,) for g in range(len(view.glyphs)) if shown[g] == wanted.answer]
    return [(first, second) for first, second, side in related(view) if side == wanted.answer]


def vqa(
    view: View, wanted: Wanted, kinds: tuple[int, ...], rng: random.Random
) -> list[dict[str, Any]]:
    """Fields of questions: the wanted one, about one of `askable`'s kinds. After a count come
    those of all other kinds and of one that is not there. A relation is asked alone: its answer
    would tell that of the next one, and that each thing stands there once.
    """
    meta = {"form": wanted.form, "scene": view.scene.name}
    if wanted.form == "relation":
        said = [relation(view, *kinds, wanted.answer)]
    else:
        absent = [glyph for glyph in range(len(view.glyphs)) if not view.things(glyph)]
        others = [*view.counts(), *rng.sample(absent, min(len(absent), 1))]
        rng.shuffle(others)
        asked = dict.fromkeys([*kinds, *others])
        said = [counted(view, glyph) for glyph in asked]
    return [dict(question=question, text=answer, meta=meta) for question, answer in said]


def count(view: View, rng: random.Random) -> tuple[str, str]:
    """How many there are of some kind, now and then of one that is not there."""
    shown = view.counts()
    absent = [glyph for glyph in range(len(view.glyphs)) if glyph not in shown]
    asked = absent if absent and rng.random() < _ABSENT else list(shown)
    return counted(view, rng.choice(asked))


def counted(view: View, glyph: int) -> tuple[str, str]:
    """How many there are of a kind."""
    shown = view.counts()
    answer = NUMBERS[view.language][shown[glyph]]
    if view.language == "zh":
        return f"图中有几个{view.name(glyph)}？", answer
    return f"How many {plural(view.name(glyph))} are there?", answer


def relation(view: View, first: int, second: int, side: str) -> tuple[str, str]:
    """Where the first kind's one object is, seen from the second's."""
    one, other = view.name(first), view.name(second)
    answer = SIDES[view.language][side]
    if view.language == "zh":
        return f"{one}在{other}的哪一边？", answer
    return f"Where is the {one} relative to the {other}?", answer


def related(view: View) -> list[tuple[int, int, str]]:
    """(kind, kind, side) of all pairs that stand alone in their kind and clearly on a side of one
    another.
    """
    alone = [g for g, n in view.counts().items() if n == 1 and g not in view.unrelated]
    pairs = []
    for first, second in permutations(alone, 2):
        (x0, y0), (x1, y1) = (view.things(g)[0].center for g in (first, second))
        across, down = x0 - x1, y0 - y1
        if abs(across) > _CLEAR * abs(down):
            pairs.append((first, second, "right" if across > 0 else "left"))
        elif abs(down) > _CLEAR * abs(across):
            pairs.append((first, second, "below" if down > 0 else "above"))
    return pairs
