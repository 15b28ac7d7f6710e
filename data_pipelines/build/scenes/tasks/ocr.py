"""Words on signs in front of a photograph, each with its quadrilateral."""

import random
from typing import Any

from PIL import Image

from data_pipelines.build.scenes.captions import Language
from data_pipelines.build.scenes.tasks.signs import draw_signs, place_signs
from data_pipelines.schema import Region


def ocr(
    rng: random.Random, under: Image.Image, language: Language
) -> tuple[Image.Image, dict[str, Any]]:
    """(picture, fields of its record): the words from top to bottom."""
    signs = place_signs(rng, language=language, image_size=under.width)
    regions = tuple(
        Region(sign.word, quads=(tuple(v / under.width for p in sign.corners() for v in p),))
        for sign in signs
    )
    return draw_signs(signs, under), dict(regions=regions)
