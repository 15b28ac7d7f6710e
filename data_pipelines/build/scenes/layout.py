"""Which objects stand where: a scene is a function of (seed, split, index) alone."""

import random
from collections.abc import Sequence
from typing import Literal, NamedTuple

from data_pipelines.build.scenes.glyphs import Glyph

Split = Literal["train", "validation", "test"]
_TRIES = 30


class Placed(NamedTuple):
    """One object: which glyph, and its place in pixels."""

    glyph: int  # index into the data set's list of glyphs
    side: int  # longer side
    x: int  # left edge
    y: int  # top edge
    width: int
    height: int

    @property
    def center(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


class Scene(NamedTuple):
    """Objects from left to right, none touching another."""

    name: str  # seed/purpose/index: tells every scene of a data set from every other
    objects: tuple[Placed, ...]


def sample_scene(
    glyphs: Sequence[Glyph],
    *,
    name: str,
    image_size: int,
    max_objects: int,
    object_size: tuple[float, float],
    often: Sequence[int],
    repeat: float,
    step: int = 1,
) -> tuple[Scene, random.Random]:
    """Draw a scene, and hand on the generator for what else is random about it.

    Args:
      name: seeds everything; the same name is the same scene on any machine and in any process.
      image_size: pixels of a side.
      max_objects: one to this many are tried; what finds no room after some tries is left out.
      object_size: smallest and largest longer side of an object, as shares of the picture.
      often: how often a scene is to hold one, two, three, .. objects.
      repeat: chance that an object is of the kind of the one before it.
      step: edges of objects lie on multiples of so many pixels.
    """
    rng = random.Random(name)
    placed: list[Placed] = []
    (wanted,) = rng.choices(range(1, max_objects + 1), often[:max_objects])
    for number in range(wanted):
        same = number > 0 and rng.random() < repeat
        glyph = placed[-1].glyph if same else rng.randrange(len(glyphs))
        for _ in range(_TRIES):
            side = round(rng.uniform(*object_size) * image_size / step) * step
            width = max(1, round(glyphs[glyph].width * side / step)) * step
            height = max(1, round(glyphs[glyph].height * side / step)) * step
            x = rng.randint(0, (image_size - width) // step) * step
            y = rng.randint(0, (image_size - height) // step) * step
            new = Placed(glyph, side, x, y, width, height)
            if not any(_touch(new, other) for other in placed):
                placed.append(new)
                break
    placed.sort(key=lambda thing: (thing.center, thing.glyph))
    return Scene(name, tuple(placed)), rng


def _touch(a: Placed, b: Placed) -> bool:
    return (
        a.x < b.x + b.width
        and b.x < a.x + a.width
        and a.y < b.y + b.height
        and b.y < a.y + a.height
    )
