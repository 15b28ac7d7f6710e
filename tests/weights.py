"""Weights for tests, made by NumPy: no initialiser to compile."""

import jax
import numpy as np

from qwenvl_jax import trees
from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.config import ModelConfig


def random_weights(config: ModelConfig, seed: int = 0) -> trees.Tree:
    """Normal entries of 0.15, norms' scales about 1: no two entries agree, no bias is zero."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        noise = 0.15 * rng.standard_normal(leaf.shape)
        return (noise + path.endswith("scale")).astype(np.float32)

    shapes = jax.eval_shape(lambda: qwenvl.init(config, jax.random.key(0)))
    return trees.map_with_path(fill, shapes)
