"""A caption whose every phrase points at its objects."""

import random
from typing import Any

from data_pipelines.build.scenes.captions import caption, choose_layout
from data_pipelines.build.scenes.tasks.view import View
from data_pipelines.schema import Region


def grounding(view: View, rng: random.Random) -> list[dict[str, Any]]:
    """Fields of a grounding record: the caption, and each kind's phrase with all its boxes."""
    layout = choose_layout(
        view.scene, rng, held_out=view.unrelated, allow_held_out=not view.unrelated
    )
    text = caption(view.scene, view.glyphs, layout=layout, language=view.language).text
    regions = []
    for glyph in view.counts():
        said = view.counted(glyph)
        start = text.index(said)  # no kind's name is part of anything else in a caption
        regions.append(Region(said, view.boxes(glyph), span=(start, start + len(said))))
    return [dict(text=text, regions=tuple(regions), meta={"layout": layout})]
