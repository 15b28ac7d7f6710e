"""Parameters put together from PyTorch directories, the rest at random, in the mesh's shards."""

from collections.abc import Mapping
from pathlib import Path

import jax

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import convert, names
from qwenvl_jax.checkpoint.weights import open_weights
from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.config import ModelConfig

TOWERS = ("vit", "adapter", "decoder")


def import_parameters(
    config: ModelConfig, sources: Mapping[str, str | Path], *, shardings: trees.Tree, seed: int
) -> trees.Tree:
    """All parameters, each in its file's dtype; what no source gives is random, float32.

    Args:
      sources: what to read (`qwen_vl`, or a tower: `vit`, `decoder`) -> directory or file. A tower
        that is named goes before the same tower of the whole model.

    Raises:
      ValueError: a source that is missing, damaged or does not fit; names file and tensors.
    """
    given: trees.Tree = {}
    whole = set(TOWERS) - set(sources)
    for source, path in sources.items():
        weights = open_weights(path)
        rows = names.rows_in(weights.names, whole if source == "qwen_vl" else {source})
        loaded = convert.load(config, weights, rows=rows, shardings=shardings)
        given = trees.merge(given, loaded)
    known = trees.flatten(given)
    rest = {path: s for path, s in trees.flatten(shardings).items() if path not in known}

    def random(seed: jax.Array) -> dict[str, jax.Array]:
        made = trees.flatten(qwenvl.init(config, jax.random.key(seed)))
        return {path: made[path] for path in rest}

    fresh = jax.jit(random, out_shardings=rest)(seed) if rest else {}
    return trees.unflatten(known | fresh)
