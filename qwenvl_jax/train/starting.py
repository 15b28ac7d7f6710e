"""Starting weights that a config takes from PyTorch directories, tower by tower."""

from absl import logging

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import convert, names
from qwenvl_jax.checkpoint.weights import Weights, open_weights
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
    for tower, path in sources.items():
        weights, rows = _open(tower, path)
        try:
            convert.check(model, weights, rows=rows)
        except ValueError as error:
            raise ValueError(f"config.init.{tower}: {error}") from None


def load(model: ModelConfig, init: InitConfig, shardings: trees.Tree) -> trees.Tree:
    """The named towers, straight into their shards, in their files' dtypes."""
    given: trees.Tree = {}
    for tower, path in init.sources().items():
        weights, rows = _open(tower, path)
        given = trees.merge(given, convert.load(model, weights, rows=rows, shardings=shardings))
        logging.info("starting weights: %s of %s", tower, path)
    return given


def _open(tower: str, path: str) -> tuple[Weights, tuple[names.Row, ...]]:
    try:
        weights = open_weights(path)
    except ValueError as error:
        raise ValueError(f"config.init.{tower}: {error}") from None
    return weights, names.rows_in(weights.names, {tower})
