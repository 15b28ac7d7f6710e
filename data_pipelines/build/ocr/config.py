"""What the drawn pages look like, as numbers; the paper used SynthDoG's, these are ours."""

from typing import Literal, NamedTuple, get_args

Unit = Literal["line", "word"]


class RenderConfig(NamedTuple):
    """One source of drawn pages; `python -m data_pipelines.build render` has a flag for each
    field.
    """

    text: str  # UTF-8 file of any length whose lines are paragraphs
    language: str  # en or zh
    backgrounds: str = ""  # folder of pictures, searched below too; none: plain colours
    fonts: str = ""  # folder of .ttf and .otf files, beside the CJK font that is always there
    pages: int = 1_000
    unit: Unit = "line"  # what has a quadrilateral of its own
    side_min: int = 448  # sides of a picture in pixels
    side_max: int = 896
    size_min: float = 0.025  # of the letters, as a share of the picture's shorter side
    size_max: float = 0.07
    regions: int = 30  # lines or words on a page at most: each takes about 45 tokens
    slant: float = 0.05  # how far the paper's corners stray, as a share of its sides
    shards: int = 8
    seed: int = 0
    processes: int = 0  # 0: one a core; changes nothing about the data


def check(config: RenderConfig) -> None:
    """Raises ValueError, naming the key, where a value is out of range."""
    least = dict(pages=1, side_min=64, regions=1, shards=1, processes=0, slant=0)
    for key, value in least.items():
        if getattr(config, key) < value:
            raise ValueError(f"{key}={getattr(config, key)}: must be at least {value}")
    if config.language not in ("en", "zh"):
        raise ValueError(f"language={config.language!r}: expected en or zh")
    if config.unit not in get_args(Unit):
        raise ValueError(f"unit={config.unit!r}: expected line or word")
    if not config.side_min <= config.side_max <= 4096:
        raise ValueError(f"side_max={config.side_max}: expected side_min to 4096")
    if not 0 < config.size_min <= config.size_max <= 0.3:
        raise ValueError(
            f"size_min={config.size_min}, size_max={config.size_max}: "
            "need 0 < size_min <= size_max <= 0.3"
        )
    if config.size_min * config.side_min < 4:
        raise ValueError(f"size_min={config.size_min}: letters would be below 4 pixels")
    if config.slant > 0.2:
        raise ValueError(f"slant={config.slant}: must be at most 0.2")
