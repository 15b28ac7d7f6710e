"""Text-only samples for a decoder that later learns to caption pictures it cannot yet see.

Each names, in one way or another, what a scene holds, and then captions it under the prompt of the
caption task. A decoder that has learnt to read such a context needs of the picture only what the
context says: that is what makes a frozen decoder of a few layers usable in stage 1.
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
EMPTY = " -"


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

    grid: the picture cut into grid x grid cells, row by row: a cell holds the name of the object
    that covers its centre, or "-". The image's queries come in the same order, so an adapter can
    take the same part.
    bag: as many cells, each with the name of any one object: what is known of a picture before
    it is known where. Without it a decoder reads no cell that is not wholly one name, and an
    adapter that starts at random gets no gradient worth the name.
    list: names with the centre in hundredths, in random order.
    plain: the caption alone, as it is without a picture.

    Each name is in either language, whatever the caption's: what is read of a picture has no
    language, so the decoder must learn that the two names of a kind are one thing.
    """
    (form,) = rng.choices(FORMS, _WEIGHTS)
    lines = {
        "grid": lambda: _grid(scene, glyphs, rng, image_size, grid),
        "bag": lambda: _bag(scene, glyphs, rng, grid),
        "list": lambda: _places(scene, glyphs, rng, image_size),
        "plain": list,
    }[form]()
    if lines:
        lines = [*lines, "\n"]
    told = caption(scene, glyphs, layout=layout, language=language).chunks
    return form, [*lines, CAPTION[language], " " + told[0], *told[1:]]


def _name(glyph: Glyph, rng: random.Random) -> str:
    return rng.choice((" " + glyph.kind.en, glyph.kind.zh))


def _grid(scene, glyphs, rng, image_size, grid):
    cells = [EMPTY] * grid**2
    side = image_size / grid
    for thing in scene.objects:
        name = _name(glyphs[thing.glyph], rng)
        columns = _covered(thing.x, thing.width, side)
        for row in _covered(thing.y, thing.height, side):
            for column in columns:
                cells[row * grid + column] = name
    return cells


def _bag(scene, glyphs, rng, grid):
    drawn = rng.choices(scene.objects, k=grid**2)
    return [_name(glyphs[thing.glyph], rng) for thing in drawn]


def _covered(start: int, length: int, side: float) -> range:
    """Cells whose centres lie in [start, start + length]; at least the one its centre is in."""
    first, last = math.ceil(start / side - 0.5), math.floor((start + length) / side - 0.5)
    own = int((start + length / 2) / side)
    return range(first, last + 1) if first <= last else range(own, own + 1)


def _places(scene, glyphs, rng, image_size):
    chunks: list[str] = []
    for thing in rng.sample(scene.objects, len(scene.objects)):
        x, y = (int(c * 100 / image_size) for c in thing.center)
        chunks += [_name(glyphs[thing.glyph], rng), f" ({x},{y})"]
    return chunks
