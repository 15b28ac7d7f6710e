"""Words on signs in front of a photograph, each with its quadrilateral."""

from collections.abc import Sequence
from typing import Any

from data_pipelines.build.scenes.tasks.signs import Sign
from data_pipelines.schema import Region


def ocr(signs: Sequence[Sign], *, image_size: int) -> dict[str, Any]:
    """Fields of an OCR record: the words from top to bottom."""
    regions = tuple(
        Region(sign.word, quads=(tuple(v / image_size for p in sign.corners() for v in p),))
        for sign in signs
    )
    return dict(regions=regions)
