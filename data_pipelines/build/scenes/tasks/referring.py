"""One object: from a phrase to its box (referring), and from its box to a phrase."""

import random
from typing import Any

from data_pipelines.build.scenes.records import box_of
from data_pipelines.build.scenes.tasks.view import View
from data_pipelines.schema import Region


def referring(view: View, rng: random.Random) -> list[dict[str, Any]]:
    """Fields of referring to one object: `the dog`, `the leftmost dog` of several. One ask, as of
    `cells.places`.
    """
    return [dict(regions=(refer(view, rng.choice(list(view.counts())), rng),))]


def grounded_caption(view: View, rng: random.Random) -> list[dict[str, Any]]:
    """Fields of asking what is in a box, for the box of every object."""
    things = rng.sample(view.scene.objects, len(view.scene.objects))
    return [
        dict(
            text=view.single(thing.glyph), regions=(Region("", (box_of(thing, view.image_size),)),)
        )
        for thing in things
    ]


def refer(view: View, glyph: int, rng: random.Random) -> Region:
    """A phrase that fits one object of a kind only, and its box. Where the outermost of a kind are
    level, the phrase is the kind's name and all its boxes are right.
    """
    name, things = view.name(glyph), view.things(glyph)
    leftmost = rng.random() < 0.5
    things.sort(key=lambda thing: thing.center[0], reverse=not leftmost)
    the = "the " if view.language == "en" else ""
    if len(things) == 1 or things[0].center[0] == things[1].center[0]:
        return Region(the + name, view.boxes(glyph))
    words = {"en": ("leftmost ", "rightmost "), "zh": ("最左边的", "最右边的")}[view.language]
    box = box_of(things[0], view.image_size)
    return Region(the + words[0 if leftmost else 1] + name, (box,))
