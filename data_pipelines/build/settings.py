"""A build's settings: a config page as checked tuples.

The paper names its rules and gives no threshold, so every number stands in the config.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class SourceSettings(NamedTuple):
    """One source: where it is and its thresholds. Sides in pixels, texts in characters."""

    path: str  # below the input folder
    language: str  # en or zh; texts of the other are dropped
    max_aspect: float = 3.0  # long side over short side
    min_side: int = 64
    max_pixels: int = 64_000_000
    min_clip_score: float = 0.0
    require_clip_score: bool = False  # drop pairs whose metadata have no score
    min_characters: int = 5
    max_characters: int = 1000
    repeat_ngram: int = 2
    max_repeated: float = 0.3  # share of n-grams that repeat an earlier one
    accents: bool = False  # keep accented Latin letters (Beyoncé), which the paper drops


class DuplicateSettings(NamedTuple):
    """What counts as the same, over all sources together."""

    near_bits: int = 12  # two hashes of 256 bits that differ in at most so many
    text_copies: int = 10  # records that may share one text; 0: any number
    rows_at_once: int = 50_000_000  # keys that one process holds; some 100 bytes each
    across_languages: bool = False  # a picture in English and in Chinese is one, not two pairs
    pairs_at_once: int = 100_000_000_000  # of near pictures that a task compares; a quarter hour


class BuildSettings(NamedTuple):
    sources: dict[str, SourceSettings]  # in order of preference: the first keeps a duplicate
    duplicates: DuplicateSettings
    evaluation: str = ""  # folder of pictures that no training record may show
    clip_scores: str = ""  # below the input: what launch/clip_score.py wrote


def load_page(path: str | Path) -> dict[str, Any]:
    """What a config page's `get_config()` returns, as plain values.

    Raises:
      ValueError: there is no such Python file.
    """
    spec = importlib.util.spec_from_file_location("build_config", path)
    if spec is None or not Path(path).is_file():
        raise ValueError(f"--config={path} is not a Python file")
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    return page.get_config().to_dict()


def check_settings(config: Mapping[str, Any]) -> BuildSettings:
    """Read a config page.

    Raises:
      ValueError: an unknown or missing key, or a value out of range; the message names the key.
    """
    unknown = set(config) - set(BuildSettings._fields)
    if unknown:
        raise ValueError(f"config.{min(unknown)} is not known")
    if not config.get("sources"):
        raise ValueError("config.sources names no source")
    sources = {}
    for name, fields in config["sources"].items():
        if not name.replace("_", "").isalnum():
            raise ValueError(f"config.sources.{name}: a name has letters, digits and _ only")
        sources[name] = _source(f"config.sources.{name}", fields)
    duplicates = _fill(DuplicateSettings, dict(config.get("duplicates", {})), "config.duplicates")
    if not 0 <= duplicates.near_bits <= 15:
        raise ValueError("config.duplicates.near_bits must be in 0..15")  # as bands are 16
    for name in ("rows_at_once", "pairs_at_once"):
        if getattr(duplicates, name) < 1:
            raise ValueError(f"config.duplicates.{name} must be at least 1")
    if duplicates.text_copies < 0:
        raise ValueError("config.duplicates.text_copies must not be negative")
    folders = {name: config.get(name, "") for name in ("evaluation", "clip_scores")}
    for name, folder in folders.items():
        if not isinstance(folder, str):
            raise ValueError(f"config.{name} must be str, not {folder!r}")
    return BuildSettings(sources, duplicates, **folders)


def _source(where: str, fields: Mapping[str, Any]) -> SourceSettings:
    source = _fill(SourceSettings, dict(fields), where)
    if source.language not in ("en", "zh"):
        raise ValueError(f"{where}.language must be en or zh, not {source.language!r}")
    for name in ("min_side", "max_pixels", "min_characters", "max_characters", "repeat_ngram"):
        if getattr(source, name) < 1:
            raise ValueError(f"{where}.{name} must be at least 1")
    if source.max_aspect < 1:
        raise ValueError(f"{where}.max_aspect must be at least 1")
    if source.max_characters < source.min_characters:
        raise ValueError(f"{where}.max_characters is below min_characters")
    if not 0 <= source.max_repeated <= 1:
        raise ValueError(f"{where}.max_repeated must be in 0..1")
    return source


def _fill(kind: type, fields: dict[str, Any], where: str) -> Any:
    known = kind.__annotations__
    for name, value in fields.items():
        if name not in known:
            raise ValueError(f"{where}.{name} is not known")
        number = known[name] is float and type(value) is int
        if not number and type(value) is not known[name]:
            raise ValueError(f"{where}.{name} must be {known[name].__name__}, not {value!r}")
    missing = set(kind._fields) - set(kind._field_defaults) - set(fields)
    if missing:
        raise ValueError(f"{where}.{min(missing)} is missing")
    return kind(**fields)
