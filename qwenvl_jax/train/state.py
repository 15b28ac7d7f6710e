"""TrainState: what a step reads and writes, born directly in its shards.

The frozen rest of the parameters is not part of it: it is stored in the compute dtype, has no
moments, is never donated and never written again.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from qwenvl_jax import trees
from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.parallel import rules
from qwenvl_jax.train import guard, optim
from qwenvl_jax.train.guard import Guard
from qwenvl_jax.train.optim import OptimConfig


class TrainState(NamedTuple):
    step: jax.Array  # int32 scalar: steps done, the skipped ones among them
    params: trees.Tree  # the trainable parameters, float32
    opt_state: optax.OptState
    guard: Guard  # what decides whether a step is applied


def initialize(
    model: ModelConfig,
    config: OptimConfig,
    tx: optax.GradientTransformation,
    seed: jax.Array | int,
    given: trees.Tree | None = None,
) -> tuple[TrainState, trees.Tree]:
    """A start at step 0: (state, frozen parameters), random but for the `given` parameters.

    Traceable: under jit every array is made in its shard, and what is given is not made twice.
    Trainable parameters are float32 master copies, frozen ones in the compute dtype.

    Args:
      seed: int32 scalar.
      given: a part of the parameter tree, in any float dtype.
    """
    known = trees.flatten(given or {})
    params = trees.map_with_path(
        lambda path, random: known.get(path, random), qwenvl.init(model, jax.random.key(seed))
    )
    trainable, frozen = optim.split(config, params)
    trainable = jax.tree.map(lambda x: x.astype(jnp.float32), trainable)
    frozen = jax.tree.map(lambda x: x.astype(model.dtype), frozen)
    state = TrainState(jnp.zeros((), jnp.int32), trainable, tx.init(trainable), guard.fresh())
    return state, frozen


def shardings(
    mesh: Mesh, tx: optax.GradientTransformation, state: TrainState, frozen: trees.Tree
) -> tuple[TrainState, trees.Tree]:
    """Shardings of (state, frozen), given as shapes. A moment lives where its parameter lives.

    Raises:
      ValueError: a parameter's dim does not divide by its mesh axis.
    """
    params = rules.parameter_shardings(mesh, state.params)
    everywhere = rules.replicated(mesh)
    # tree.map_params pairs each moment with its parameter by structure; shapes would be ambiguous.
    moments = optax.tree.map_params(
        tx,
        lambda _, sharding: sharding,
        state.opt_state,
        params,
        transform_non_params=lambda _: everywhere,
    )
    verdicts = jax.tree.map(lambda _: everywhere, state.guard)
    return TrainState(everywhere, params, moments, verdicts), rules.parameter_shardings(
        mesh, frozen
    )
