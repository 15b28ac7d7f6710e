"""A tiny CLIP with recorded scores: random weights, and what OpenCLIP made of these pairs."""

from pathlib import Path

from tests.data_pipelines.crawl_data import picture

REFERENCE = Path(__file__).parent / "reference" / "clip"
_TEXTS = (
    "The red dog",
    "a cat at the sea, 12 of them in all",
    "",
    "狗",
    "THE &amp; dog's",
)
_SIZES = ((24, 24), (60, 31), (25, 80), (48, 48), (130, 97))


def clip_pairs() -> list[tuple[bytes, str]]:
    """PNG files, which every decoder reads alike, and texts."""
    return [(picture(i, s, "PNG"), text) for i, (s, text) in enumerate(zip(_SIZES, _TEXTS))]
