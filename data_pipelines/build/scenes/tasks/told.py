"""Questions of the other tasks about scenes that are told, not drawn: text for a decoder to learn
from before it sees anything.

    - - - - - + 🐶- ..        the cells of the picture, row by row, as `cells` tells them
    <ref>the dog</ref><box>(421,31),(843,437)</box>

A cell tells where a thing is to within a cell, so an answer's first digits can be known, and its
last ones only guessed: as they are of a picture, before much of it is seen.
"""

import re
from typing import Any

from data_pipelines.build.scenes.captions import Language
from data_pipelines.schema import Region
from qwenvl_jax.text import prompts

_MARKED = re.compile(r"<ref>(.+?)</ref> ?(?:<(?:box|quad)>.+?</(?:box|quad)>)+")


def told(cells: str, task: str, asked: dict[str, Any], language: Language) -> dict[str, Any]:
    """Fields of a text record: a picture's cells, then a record `asked`, as its task is trained."""
    before = cells + "\n"
    fields = {key: value for key, value in asked.items() if key != "meta"}
    body = prompts.task_spans(task, language=language, **fields)[1:-1]
    plain, *marked = _MARKED.split("".join(span.text for span in body))
    text, regions = before + plain, []
    for place, phrase, after in zip(
        asked.get("regions", ()), marked[::2], marked[1::2], strict=True
    ):
        span = (len(text), len(text) + len(phrase))
        regions.append(Region(phrase, place.boxes, place.quads, span=span))
        text += phrase + after
    return dict(text=text, regions=tuple(regions))
