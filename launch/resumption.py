"""A resume compares the config that it is given with the one that was saved, field by field.

REFUSED   changes the model, the data or the optimiser's state: the numbers on disk would mean
          something else
TOLD      changes how training goes on from here; the log says so, with both rates
FREE      changes nothing but speed, place, or what is written and when
"""

import json
import re
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from launch import pages
from qwenvl_jax import settings
from qwenvl_jax.checkpoint import run_config
from qwenvl_jax.train import optim
from qwenvl_jax.train.optim import OptimConfig

REFUSED, TOLD, FREE = "refused", "told", "free"
# The first pattern that a field matches says its class; the stream itself compares what sources
# hold and the weights that the past has seen.
CLASSES = (
    (r"model\.(remat|scan_layers)", FREE),
    (r"model\..*", REFUSED),
    (r"seed", REFUSED),
    (r"data\.(num_workers|prefetch|verify|max_refused|tokenizer)", FREE),
    (r"data\.sources\.[^.]+\.(path|weight|changes)", FREE),
    (r"data\..*", REFUSED),
    (r"heldout\..*", TOLD),
    (r"optim\.trainable", REFUSED),
    (r"optim\.(accumulation|max_bad_steps)", FREE),
    (r"optim\..*", TOLD),
    (r"(mesh|checkpoint|init|resume|scores)\..*", FREE),
    (r"loss_chunk|eval_every", FREE),
)


def class_of(field: str) -> str:
    """REFUSED, TOLD or FREE, for example of `optim.steps`.

    Raises:
      ValueError: no pattern names the field.
    """
    for pattern, kind in CLASSES:
        if re.fullmatch(pattern, field):
            return kind
    raise ValueError(f"config.{field} has no class in launch/resumption.py")


def compare(saved: dict[str, Any], given: dict[str, Any], *, step: int, workdir: str) -> None:
    """Refuse or tell what differs.

    Args:
      saved, given: whole configs as plain data; what one leaves out has its default.
      step: that the run goes on at.

    Raises:
      ValueError: names every field that must not change, with both values.
    """
    changed = run_config.differences(_completed(saved), _completed(given))
    refused = [change for change in changed if class_of(change[0]) == REFUSED]
    if refused:
        lines = [f"config.{f}: saved {old!r}, given {new!r}" for f, old, new in refused]
        raise ValueError(
            f"{workdir} was trained with another config: {'; '.join(lines)}; take the saved value,"
            " or another --workdir"
        )
    told = [change for change in changed if class_of(change[0]) == TOLD]
    for field, old, new in told:
        logging.warning("config.%s was %r, from step %d on it is %r", field, old, step, new)
    if any(field.startswith("optim.") for field, *_ in told):
        rates = [_rate(config, step) for config in (saved, given)]
        logging.warning("learning rate at step %d: %.3g, it was to be %.3g", step, *rates[::-1])


def _completed(config: dict) -> dict:
    """With the defaults of what it leaves out."""
    page = ConfigDict(config)
    pages.complete(page)
    # Older configs say these twice; `launch/stage.py` has seen that they agree.
    for group in ("data", "heldout"):
        for name in pages.OF_THE_MODEL:
            if name in page.get(group, {}):
                del page[group][name]
    return json.loads(page.to_json())


def _rate(config: dict, step: int) -> float:
    built = settings.build(OptimConfig, config["optim"], "config.optim")
    return float(optim.schedule(built)(step))
