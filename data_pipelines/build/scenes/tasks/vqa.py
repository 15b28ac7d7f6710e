"""Counting ("How many dogs are there?") and relations ("Where is the dog relative to the car?")."""

import random
from itertools import permutations
from typing import Any

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
_ABSENT = 0.15  # share of counting questions about a kind that is not there


def vqa(view: View, rng: random.Random) -> dict[str, Any]:
    """Fields of a question's record; relations where the scene has one, in half of the cases."""
    pairs = related(view)
    if pairs and rng.random() < 0.5:
        first, second, side = rng.choice(pairs)
        question, answer = relation(view, first, second, side)
        return dict(question=question, text=answer, meta={"form": "relation"})
    question, answer = count(view, rng)
    return dict(question=question, text=answer, meta={"form": "count"})


def count(view: View, rng: random.Random) -> tuple[str, str]:
    """How many there are of some kind, now and then of one that is not there."""
    shown = view.counts()
    absent = [glyph for glyph in range(len(view.glyphs)) if glyph not in shown]
    asked = absent if absent and rng.random() < _ABSENT else list(shown)
    glyph = rng.choice(asked)
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
