"""What the configuration beside a tower's weights says, compared with the model that takes them.

Heads, epsilons and the rotary base leave no trace in a tensor's shape: weights read with another
value give other numbers without an error. Sizes that shapes do show are compared there.
"""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from qwenvl_jax.checkpoint import clip_config, released_config
from qwenvl_jax.checkpoint.json_file import Table, read_object
from qwenvl_jax.checkpoint.released_config import Stated
from qwenvl_jax.checkpoint.weights import OPENCLIP_FILES, Weights, open_weights
from qwenvl_jax.model.config import ModelConfig

CONFIG = "config.json"
_FIELDS = {
    "vit": released_config.vit_fields,
    "adapter": released_config.adapter_fields,
    "decoder": released_config.decoder_fields,
}
# Fields that no shape shows. `image_pad_id` belongs to the run's vocabulary, not to the decoder.
_UNSEEN = {
    "vit": ("heads", "eps"),
    "adapter": ("heads", "eps"),
    "decoder": ("heads", "rope_base", "eps", "train_length"),
}


class Source(NamedTuple):
    """Where a tower comes from."""

    weights: Weights
    config: Path  # the file that describes it, whether it is there or not


def open_source(path: str | Path, tower: str) -> Source:
    """Open the weights that hold a tower, and find the file that describes them.

    A folder may hold a CLIP in OpenCLIP's layout and in Hugging Face's: the ViT is read in the
    former.

    Raises:
      ValueError: nothing there, a damaged or refused file, or a CLIP in Hugging Face's layout only.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    openclip = [path / name for name in OPENCLIP_FILES if (path / name).is_file()]
    weights = open_weights(openclip[0] if tower == "vit" and openclip else path)
    if any(name.startswith("visual.") for name in weights.names):
        return Source(weights, folder / clip_config.OPENCLIP)
    if any(name.startswith("vision_model.") for name in weights.names):
        raise ValueError(
            f"weights {weights.path}: a vision tower in Hugging Face's layout ('vision_model.');"
            f" the ViT is read in OpenCLIP's: {' or '.join(OPENCLIP_FILES)}"
        )
    return Source(weights, folder / CONFIG)


def stated_fields(file: Path, tower: str) -> dict[str, Stated]:
    """Field of the tower's config -> what the file states; nothing where there is no file.

    OpenCLIP's epsilon (1e-5) is left out: the released model runs the same weights at 1e-6.

    Raises:
      ValueError: no JSON, a missing key, or a network that this model is not; names file and key.
    """
    if not file.is_file():
        return {}
    if file.name == clip_config.OPENCLIP:
        vit = clip_config.read_vision(file)
        seen = ("patch_size", "width", "layers", "heads", "mlp_width")
        where = "model_cfg.vision_cfg"
        return {name: Stated(f"{where}, {name}", getattr(vit, name)) for name in seen}
    table = Table(file, read_object(file))
    unknown = released_config.unknown_keys(table)
    if unknown:
        logging.warning(
            "%s: keys without a meaning here, not looked at: %s", file, ", ".join(unknown)
        )
    return _FIELDS[tower](table)


def unseen_differences(
    before: Mapping[str, Any], config: ModelConfig, towers: Collection[str]
) -> list[str]:
    """Fields without a trace in any shape that differ, as `config.model.vit.eps=.., here ..`.

    Args:
      before: another run's `config.model`, as plain data; an absent field has its default.
    """
    found = []
    for tower in towers:
        ours = getattr(config, tower)
        for field in dataclasses.fields(ours):
            there = before.get(tower, {}).get(field.name, field.default)
            here = getattr(ours, field.name)
            if field.name in _UNSEEN[tower] and there not in (here, dataclasses.MISSING):
                found.append(f"config.model.{tower}.{field.name}={there}, here {here}")
    return found


def require_same(config: ModelConfig, tower: str, file: Path) -> None:
    """Compare what a file states with what the model computes, where no shape would tell.

    Raises:
      ValueError: lists every difference with the file's key and the config's; or as
        `stated_fields`.
    """
    ours = getattr(config, tower)
    fields = stated_fields(file, tower)
    if not fields:
        logging.warning(
            "%s is missing: that the %s has the config's %s is taken on trust",
            file, tower, ", ".join(_UNSEEN[tower]),
        )  # fmt: skip
    wrong = [
        f"{stated.key}={stated.value} there, config.model.{tower}.{name}={getattr(ours, name)}"
        for name, stated in fields.items()
        if name in _UNSEEN[tower] and stated.value != getattr(ours, name)
    ]
    if wrong:
        raise ValueError(f"{file}: the model would compute other numbers: {'; '.join(wrong)}")
