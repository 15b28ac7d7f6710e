"""A config page with the settings that the sources of an import state in place of its own."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from qwenvl_jax.checkpoint import manifest, vocabulary
from qwenvl_jax.checkpoint.imported import TOWERS
from qwenvl_jax.checkpoint.json_file import Table, read_object
from qwenvl_jax.checkpoint.released_config import POSITION_GRID
from qwenvl_jax.checkpoint.source_config import CONFIG, open_source, stated_fields
from qwenvl_jax.model.config import AdapterConfig, DecoderConfig, VitConfig
from qwenvl_jax.text.tokenizer import load_tokenizer

_TOWERS = {"vit": VitConfig, "adapter": AdapterConfig, "decoder": DecoderConfig}


def take_settings(config: ConfigDict, sources: Mapping[str, str]) -> Iterator[str]:
    """Change the page's model and data to what the sources state, and tell every change.

    A tower that is named goes before the same tower of the whole model. Image size, position grid,
    queries and vocabulary come from the whole model alone.

    Args:
      sources: `qwen_vl`, `vit`, `decoder` -> directory or file.

    Yields:
      A line for each tower that changes: the file, its keys, ours and both values.

    Raises:
      ValueError: a source's configuration is damaged, or of a network that this model is not.
    """
    for tower in TOWERS:
        path = sources.get(tower, sources.get("qwen_vl"))
        if path:
            file = open_source(path, tower).config
            stated = stated_fields(file, tower).items()
            values = {name: (field.key, field.value) for name, field in stated}
            yield from _set(config.model[tower], values, tower, file)
    if "qwen_vl" not in sources:
        return
    path = Path(sources["qwen_vl"])
    folder = path if path.is_dir() else path.parent
    file = folder / CONFIG
    if file.is_file():
        eyes = Table(file, read_object(file)).table("visual")
        values = {
            "image_size": (eyes.key("image_size"), eyes.whole("image_size")),
            "position_grid": (
                eyes.key("position_grid"),
                eyes.whole("position_grid", POSITION_GRID),
            ),
        }
        yield from _set(config.model.vit, values, "vit", file)
    yield from _take_vocabulary(config, folder)


def _set(
    part: ConfigDict, values: Mapping[str, tuple[str, Any]], tower: str, file: Path
) -> Iterator[str]:
    """Set fields; a line with all for which the page has another value, or another default.

    Args:
      values: field -> the file's key, the value.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(_TOWERS[tower])}
    told = []
    for name, (key, value) in values.items():
        before = part.get(name, defaults[name])
        if before != value:
            told.append(f"config.model.{tower}.{name}={value} by {key} (page: {before})")
            with part.unlocked():
                part[name] = value
    if told:
        yield f"{file}: {', '.join(told)}"


def _take_vocabulary(config: ConfigDict, folder: Path) -> Iterator[str]:
    """The vocabulary beside the weights, unless the page's has the same bytes."""
    for name in vocabulary.NAMES.values():
        if not (folder / name).is_file():
            continue
        theirs = load_tokenizer(folder / name)  # refuses a damaged one
        try:
            ours = Path(load_tokenizer(config.data.tokenizer or None).path)
        except FileNotFoundError:
            ours = None
        if ours is None or manifest.sha256(ours) != manifest.sha256(Path(theirs.path)):
            before = config.data.tokenizer
            config.data.tokenizer = str((folder / name).resolve())
            yield f"config.data.tokenizer={config.data.tokenizer}, not {before!r} of the page"
        return
