"""Text-only samples for a decoder that later learns to caption pictures it cannot yet see.

Each names, in one way or another, what a scene holds, and then captions it under the prompt of the
caption task. A decoder that has learnt to read such a context needs of the picture only what the
context says: that is what makes a frozen decoder of a few layers usable in stage 1.
"""

import random
from collections.abc import Sequence

from data_pipelines.build.scenes.captions import Language, caption
from data_pipelines.build.scenes.glyphs import Glyph
from data_pipelines.build.scenes.layout import Scene
from qwenvl_jax.text.prompts import CAPTION

FORMS = ("grid", "list", "other", "plain")
_WEIGHTS = (6, 2, 1, 1)
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

    grid: the picture cut into grid x grid cells, row by row: a cell holds the name of the object
    whose centre is in it, or "-". The image's queries come in the same order, so an adapter can
    take the same part.
    list: names with the centre in hundredths, in random order. other: the caption in the other
    language. plain: the caption alone, as it is without a picture.
    """
    (form,) = rng.choices(FORMS, _WEIGHTS)
    other: Language = "zh" if language == "en" else "en"
    lines = {
        "grid": lambda: _grid(scene, glyphs, language, image_size, grid),
        "list": lambda: _places(scene, glyphs, rng, language, image_size),
        "other": lambda: caption(scene, glyphs, layout=layout, language=other).chunks,
        "plain": list,
    }[form]()
    if lines:
        lines = [*lines, "\n"]
    told = caption(scene, glyphs, layout=layout, language=language).chunks
    return form, [*lines, CAPTION[language], " " + told[0], *told[1:]]


def _grid(scene, glyphs, language, image_size, grid):
    cells = [EMPTY] * grid**2
    for thing in scene.objects:
        column, row = (int(c * grid / image_size) for c in thing.center)
        cells[row * grid + column] = getattr(glyphs[thing.glyph].kind, language)
    return [" " + cell for cell in cells] if language == "en" else cells


def _places(scene, glyphs, rng, language, image_size):
    chunks: list[str] = []
    for thing in rng.sample(scene.objects, len(scene.objects)):
        x, y = (int(c * 100 / image_size) for c in thing.center)
        name = getattr(glyphs[thing.glyph].kind, language)
        chunks += [" " + name if language == "en" else name, f" ({x},{y})"]
    return chunks
