"""Starting weights that a config takes from PyTorch directories, tower by tower."""

from pathlib import Path

from absl import logging

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import imported, names, run_config, source_config
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.train.config import InitConfig


def check(model: ModelConfig, init: InitConfig) -> None:
    """Open what the config names and compare it with the model, before anything is compiled.

    Raises:
      ValueError: names the key whose path is missing or does not fit, or the two keys that claim
        one parameter.
    """
    sources = init.sources()
    if init.checkpoint:
        for path in trees.flatten(names.parameter_shapes(model)):
            tower = path.split("/")[0]
            if tower in sources and init.takes(path):
                raise ValueError(
                    f"config.init.{tower} and config.init.checkpoint both give {path!r};"
                    " narrow config.init.take"
                )
        _warn_of_other_numbers(model, init)
    for tower, path in sources.items():
        try:
            imported.check_tower(model, tower, path, resize_queries=init.resize_queries)
        except ValueError as error:
            raise ValueError(f"config.init.{tower}: {error}") from None


def _warn_of_other_numbers(model: ModelConfig, init: InitConfig) -> None:
    """Log what an earlier run's weights were computed with, where this run's model differs.

    A stage may change a rotary base on purpose, so a difference is no error.
    """
    if not (Path(init.checkpoint) / run_config.NAME).is_file():
        return  # a run that goes on does not read it; one that starts is told that it is missing
    before = run_config.read(init.checkpoint).get("model", {})
    taken = {p.split("/")[0] for p in trees.flatten(names.parameter_shapes(model)) if init.takes(p)}
    for line in source_config.unseen_differences(before, model, sorted(taken)):
        logging.warning("config.init.checkpoint=%s was trained with %s", init.checkpoint, line)


def load(
    model: ModelConfig, init: InitConfig, shardings: trees.Tree, *, verify: bool = True
) -> trees.Tree:
    """The named towers, straight into their shards, in their files' dtypes.

    Args:
      verify: compare files with the manifest of an export first.
    """
    return imported.load_towers(
        model,
        init.sources(),
        shardings=shardings,
        resize_queries=init.resize_queries,
        verify=verify,
    )
