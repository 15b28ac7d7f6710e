"""What stands where, as signs for the cells of a picture, row by row: the answer that shows an
adapter for every query what its part of the picture holds.

    - - + -
    - - + 🐶     the dog's middle; + is what it covers besides
    - - - -
    🚗- - -

Words on signs are told alike: an English one at its middle, a Chinese one character by character.

A decoder knows no absolute position, so where cells are read as text each has its name before it:
`A-B-C+D-E-F-G+H🐶I-..`. By its name a cell can also be asked for (`places`): an answer of one token
is all about which thing was meant, where most tokens of a box are about its edges.
"""

import random
import string
from collections.abc import Iterable, Sequence
from typing import Any

from data_pipelines.build.scenes.captions import Language
from data_pipelines.build.scenes.hints import EMPTY
from data_pipelines.build.scenes.tasks.signs import Sign
from data_pipelines.build.scenes.tasks.view import View

COVERED = "+"
NAMES = string.ascii_letters[26:] + string.ascii_letters[:26]
QUESTION = {"en": "What is where?", "zh": "什么在哪里？"}
WHAT = {"en": "What is in {cell}?", "zh": "{cell}里有什么？"}
WHERE = {"en": "Where is the {name}?", "zh": "{name}在哪？"}

Bounds = tuple[float, float, float, float]  # left, top, right, bottom, in cells
Mark = tuple[float, float, str]  # x and y, in cells, and what to say there


def cells(view: View, rng: random.Random) -> list[dict[str, Any]]:
    """Fields of asking for the cells of a scene."""
    return [dict(question=QUESTION[view.language], text="".join(of_scene(view)))]


def places(view: View, rng: random.Random) -> list[dict[str, Any]]:
    """Fields of asking in which cell a thing's middle lies, a thing that is the only one of its
    kind; where there is none, of asking what has its middle in a cell. One ask: from the place of
    one thing and what is left over, another's could be told without a look.
    """
    language, counts = view.language, view.counts()
    thing = rng.choice(
        [t for t in view.scene.objects if counts[t.glyph] == 1] or view.scene.objects
    )
    x, y = (int(c * view.grid / view.image_size) for c in thing.center)
    cell, name = _name(y * view.grid + x, of=view.grid**2), view.name(thing.glyph)
    if counts[thing.glyph] == 1:
        return [dict(question=WHERE[language].format(name=name), text=cell)]
    return [dict(question=WHAT[language].format(cell=cell), text=name)]


def named(told: Sequence[str]) -> str:
    """Cells as text, each after its name."""
    return "".join(f"{_name(place, of=len(told))}{cell}" for place, cell in enumerate(told))


def of_scene(view: View) -> list[str]:
    """A cell holds the emoji of the object whose middle lies in it."""
    side = view.image_size / view.grid
    bounds, marks = [], []
    for thing in view.scene.objects:
        box = (thing.x, thing.y, thing.x + thing.width, thing.y + thing.height)
        bounds.append(tuple(v / side for v in box))
        marks.append((*(c / side for c in thing.center), view.kind(thing.glyph).glyph))
    return _write(bounds, marks, view.grid)


def of_signs(signs: Sequence[Sign], language: Language, *, image_size: int, grid: int) -> list[str]:
    """A cell holds the word, or the Chinese character, whose middle lies in it."""
    side = image_size / grid
    bounds, marks = [], []
    for sign in signs:
        bounds.append(tuple(v / side for v in sign.bounds()))
        units = [sign.word] if language == "en" else sign.word
        for place, unit in enumerate(units):
            x, y = sign.along((place + 0.5) / len(units))
            marks.append((x / side, y / side, unit))
    return _write(bounds, marks, grid)


def _name(place: int, *, of: int) -> str:
    """Raises ValueError where there are more cells than names."""
    if of > len(NAMES):
        raise ValueError(f"grid: {of} cells, there are names for {len(NAMES)}")
    return NAMES[place]


def _write(bounds: Iterable[Bounds], marks: Iterable[Mark], grid: int) -> list[str]:
    told = [EMPTY] * grid**2
    for left, top, right, bottom in bounds:
        for place in range(grid**2):
            x, y = place % grid + 0.5, place // grid + 0.5
            if left <= x <= right and top <= y <= bottom:
                told[place] = COVERED
    for x, y, what in marks:
        told[int(y) * grid + int(x)] = what
    return told
