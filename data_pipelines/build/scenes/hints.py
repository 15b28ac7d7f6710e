"""Text-only samples for a decoder that later learns to caption pictures it cannot yet see.

Each says, in one way or another, what a scene holds, and then captions it under the prompt of the
caption task. A decoder that has learnt to read such a context needs of the picture only what the
context says: that is what makes a frozen decoder of a few layers usable in stage 1. The hint is a
target like the caption: a decoder that learnt the captions alone read them as well, but gave an
adapter a much worse gradient.

Objects of a hint are emoji: signs of no language, which no caption holds. So one sign stands for
the two names of a kind, and what has been said is easily told from what is there.
"""

import math
import random
from collections.abc import Sequence

from data_pipelines.build.scenes.captions import Language, caption
from data_pipelines.build.scenes.glyphs import Glyph
from data_pipelines.build.scenes.layout import Scene
from qwenvl_jax.text.prompts import CAPTION

FORMS = ("grid", "bag", "list", "plain")
_WEIGHTS = (4, 4, 1, 1)
EMPTY = "-"


def hint(
    scene: Scene,
    glyphs: Sequence[Glyph],
    rng: random.Random,
    *,
    layout: str,
    language: Language,
    image_size: int,
    grid: int,
) -> tuple[str, list[str]]:
    """(form, chunks) of a text-only sample.

    grid: the picture cut into grid x grid cells, row by row: a cell holds the emoji of the object
    that covers its centre, or "-". The image's queries come in the same order, so an adapter can
    take the same part.
    bag: as many cells, each with any one of the objects: what is known of a picture before it is
    known where. Without it a decoder reads no cell that is not wholly one thing, and an adapter
    that starts at random gets no gradient worth the name.
    list: objects with their centres in hundredths, in random order.
    plain: the caption alone, as it is without a picture.
    """
    (form,) = rng.choices(FORMS, _WEIGHTS)
    lines = {
        "grid": lambda: cells(scene, glyphs, image_size, grid),
        "bag": lambda: _bag(scene, glyphs, rng, grid),
        "list": lambda: _places(scene, glyphs, rng, image_size),
        "plain": list,
    }[form]()
    if lines:
        lines = [*lines, "\n"]
    told = caption(scene, glyphs, layout=layout, language=language).chunks
    return form, [*lines, CAPTION[language], " " + told[0], *told[1:]]


def cells(scene: Scene, glyphs: Sequence[Glyph], image_size: int, grid: int) -> list[str]:
    """What covers the centre of each of grid x grid cells, row by row."""
    covers = [EMPTY] * grid**2
    side = image_size / grid
    for thing in scene.objects:
        columns = _covered(thing.x, thing.width, side)
        for row in _covered(thing.y, thing.height, side):
            for column in columns:
                covers[row * grid + column] = glyphs[thing.glyph].kind.glyph
    return covers


def _bag(scene, glyphs, rng, grid):
    drawn = rng.choices(scene.objects, k=grid**2)
    return [glyphs[thing.glyph].kind.glyph for thing in drawn]


def _covered(start: int, length: int, side: float) -> range:
    """Cells whose centres lie in [start, start + length]; at least the one its centre is in."""
    first, last = math.ceil(start / side - 0.5), math.floor((start + length) / side - 0.5)
    own = int((start + length / 2) / side)
    return range(first, last + 1) if first <= last else range(own, own + 1)


def _places(scene, glyphs, rng, image_size):
    chunks: list[str] = []
    for thing in rng.sample(scene.objects, len(scene.objects)):
        x, y = (int(c * 100 / image_size) for c in thing.center)
        chunks += [glyphs[thing.glyph].kind.glyph, f" ({x},{y})"]
    return chunks
