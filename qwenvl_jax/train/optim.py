"""AdamW with the paper's groups: one schedule, a decay mask, layer-wise rates in the ViT.

The update of a leaf, in order (each line one optax transform):

    g   <- clip by the global norm over the TRAINABLE gradients
    u   <- Adam(g)
    u   <- u + weight_decay * p             only leaves the decay mask names
    u   <- u * factor                       only vit/*, a vector along the stacked layers
    p   <- p - schedule(step) * u

Frozen leaves never enter: gradients, moments and norms are built from the trainable part of the
tree alone.
"""

import dataclasses
import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax

from qwenvl_jax import trees
from qwenvl_jax.parallel import rules


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """The recipe's table. Rates are per step, steps are optimiser steps."""

    steps: int
    warmup_steps: int
    peak_lr: float
    min_lr: float
    trainable: str  # regex over parameter paths (whole path)
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-6
    weight_decay: float = 0.05
    # The paper does not say what is not decayed: norms, biases and tables of positions or queries
    # here.
    no_decay: str = r".*/(scale|bias)|vit/positions|adapter/query"
    clip_norm: float = 1.0
    restarts: tuple[int, ...] = ()  # steps at which warm-up and decay begin anew
    vit_layer_decay: float = 1.0  # 1: every ViT layer has the same rate
    accumulation: int = 1  # microbatches of a step
    max_bad_steps: int = 10  # skipped steps in a row that end the run
    skip_spikes: float = 0.0  # deviations above the last 128 steps that skip a step; 0: none do

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"config.optim.steps={self.steps} must be at least 1")
        if not 0 < self.peak_lr < math.inf:
            raise ValueError(f"config.optim.peak_lr={self.peak_lr} must be finite and above 0")
        if not 0 <= self.warmup_steps < self.steps:
            raise ValueError(
                f"config.optim.warmup_steps={self.warmup_steps} must be below"
                f" config.optim.steps={self.steps} and not negative"
            )
        if min(self.cycles()) <= self.warmup_steps:
            raise ValueError(
                f"config.optim.restarts={self.restarts} must rise, with more than"
                f" config.optim.warmup_steps={self.warmup_steps} steps after each"
            )
        if not 0 <= self.min_lr <= self.peak_lr:
            raise ValueError(
                f"config.optim.min_lr={self.min_lr} must be between 0 and"
                f" config.optim.peak_lr={self.peak_lr}"
            )
        if self.accumulation < 1:
            raise ValueError(f"config.optim.accumulation={self.accumulation} must be at least 1")
        if self.max_bad_steps < 1:
            raise ValueError(f"config.optim.max_bad_steps={self.max_bad_steps}: at least 1")
        if not 0 <= self.skip_spikes < math.inf:
            raise ValueError(
                f"config.optim.skip_spikes={self.skip_spikes} must be finite and not negative;"
                " 0 skips no spike, 6 is a common choice"
            )
        if not 0 < self.vit_layer_decay <= 1:
            raise ValueError("config.optim.vit_layer_decay must be in (0, 1]")
        for name in ("trainable", "no_decay"):
            try:
                re.compile(getattr(self, name))
            except re.error as error:
                raise ValueError(f"config.optim.{name} is no regular expression: {error}") from None

    def cycles(self) -> list[int]:
        """Steps of each warm-up and decay; one cycle where nothing restarts."""
        bounds = (0, *self.restarts, self.steps)
        return [end - start for start, end in itertools.pairwise(bounds)]

    def is_trainable(self, path: str) -> bool:
        """Whether the stage trains the parameter at `path`."""
        return re.fullmatch(self.trainable, path) is not None


def schedule(config: OptimConfig) -> optax.Schedule:
    """Linear warm-up from 0 to the peak, then cosine to the floor at the cycle's last step."""
    cycle = dict(
        init_value=0.0,
        peak_value=config.peak_lr,
        warmup_steps=config.warmup_steps,
        end_value=config.min_lr,
    )
    return optax.sgdr_schedule([cycle | dict(decay_steps=steps) for steps in config.cycles()])


def vit_layer_factors(path: str, shape: tuple[int, ...], decay: float, layers: int) -> np.ndarray:
    """Factor on the learning rate of one leaf: decay^(layers - i) for ViT block i, decay^(layers +
    1) below the blocks.

    The adapter and the decoder stand above the last block and have factor 1. (The paper gives only
    the decay 0.95; that the patch embedding counts as a layer of its own, as in BEiT, is our
    choice.)
    """
    if path.startswith("vit/blocks/"):
        factors = decay ** np.arange(layers, 0, -1, dtype=np.float32)
        return factors.reshape(layers, *[1] * (len(shape) - 1))
    return np.asarray(decay ** (layers + 1) if path.startswith("vit/") else 1.0, np.float32)


def _scale_vit_layers(decay: float, layers: int) -> optax.GradientTransformation:
    def scale(updates, params):
        def one(path, u):
            return u * vit_layer_factors(path, u.shape, decay, layers).astype(u.dtype)

        return trees.map_with_path(one, updates)

    return optax.stateless(scale)


def make_optimizer(config: OptimConfig, vit_layers: int) -> optax.GradientTransformation:
    """The transform for the trainable part of the parameters; its state holds nothing of the frozen
    part.
    """

    def decayed(params):
        return trees.map_with_path(lambda path, _: not re.fullmatch(config.no_decay, path), params)

    def is_vit(params):
        return trees.map_with_path(lambda path, _: path.startswith("vit/"), params)

    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(config.b1, config.b2, config.eps),
        optax.add_decayed_weights(config.weight_decay, mask=decayed),
        optax.masked(_scale_vit_layers(config.vit_layer_decay, vit_layers), is_vit),
        optax.scale_by_learning_rate(schedule(config)),
    )


def split(config: OptimConfig, params: trees.Tree) -> tuple[dict, dict]:
    """(trainable, frozen) of a parameter tree, by `config.optim.trainable`.

    Raises:
      ValueError: the pattern matches no parameter.
    """
    trainable, frozen = trees.partition(params, config.is_trainable)
    if not trainable:
        hint = rules.unmatched_hint(config.trainable, list(trees.flatten(params)))
        raise ValueError(f"config.optim.trainable={config.trainable!r} matches no parameter{hint}")
    return trainable, frozen


def tower_norms(grads: trees.Tree) -> dict[str, jax.Array]:
    """Gradient norm of each tower that is trained, float32."""
    return {
        f"grad_norm/{tower}": optax.tree.norm(
            jax.tree.map(lambda g: g.astype(jnp.float32), grads[tower])
        )
        for tower in grads
    }
