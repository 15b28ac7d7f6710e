"""Questions of the other tasks about scenes that are told, not drawn: text for a decoder to learn
from before it sees anything.

    - - 🐶🐶- - - 🐶🐶- ..        what covers each cell of the picture, row by row, as in `hints`
    <ref>the dog</ref><box>(421,31),(843,437)</box>

A cell tells where a thing is to within a cell, so an answer's first digits can be known, and its
last ones only guessed: as they are of a picture, before much of it is seen. Signs are told by their
words, in any order.
"""

import random
import re
from typing import Any

from data_pipelines.build.scenes.captions import Language
from data_pipelines.build.scenes.hints import cells
from data_pipelines.build.scenes.tasks.signs import WORDS, says
from data_pipelines.build.scenes.tasks.view import View
from data_pipelines.schema import Region
from qwenvl_jax.text import prompts

_MARKED = re.compile(r"<ref>(.+?)</ref>(?:<box>.+?</box>)+")


def told(view: View, task: str, asked: dict[str, Any], *, grid: int) -> dict[str, Any]:
    """Fields of a text record: a scene's cells, then a task's record `asked` as it is trained."""
    before = "".join(cells(view.scene, view.glyphs, view.image_size, grid)) + "\n"
    fields = {key: value for key, value in asked.items() if key != "meta"}
    body = prompts.task_spans(task, language=view.language, **fields)[1:-1]
    plain, *marked = _MARKED.split("".join(span.text for span in body))
    text, regions = before + plain, []
    for place, phrase, after in zip(
        asked.get("regions", ()), marked[::2], marked[1::2], strict=True
    ):
        span = (len(text), len(text) + len(phrase))
        regions.append(Region(phrase, place.boxes, span=span))
        text += phrase + after
    return dict(text=text, regions=tuple(regions), meta={"form": task})


def told_signs(rng: random.Random, language: Language) -> dict[str, Any]:
    """Fields of a text record: words, then the caption of a picture that shows them on signs."""
    words = rng.sample(WORDS[language], rng.choice((1, 1, 2)))
    seen = " ".join(rng.sample(words, len(words)))
    asked = prompts.CAPTION[language]
    return dict(text=f"{seen}\n{asked} {says(words, language)}", meta={"form": "signs"})
