"""From a TrainConfig and a stream of batches to a trained, checkpointed work directory.

`run` is what a work directory lives through: compile, start or resume, then the loop.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import NamedSharding

from qwenvl_jax import trees
from qwenvl_jax.batch import Batch
from qwenvl_jax.checkpoint.load import load_parameters
from qwenvl_jax.checkpoint.manager import Checkpoints
from qwenvl_jax.parallel import rules
from qwenvl_jax.train import loop, starting
from qwenvl_jax.train import state as state_lib
from qwenvl_jax.train.config import TrainConfig
from qwenvl_jax.train.placement import put
from qwenvl_jax.train.profiles import Profiles
from qwenvl_jax.train.program import Prepared, memory, prepare
from qwenvl_jax.train.report import Report, Source
from qwenvl_jax.train.state import TrainState
from qwenvl_jax.train.timer import Timer


def start(config: TrainConfig, prepared: Prepared) -> tuple[TrainState, trees.Tree]:
    """Step 0: random weights or those that `config.init` names, directly in their shards; the
    frozen ones as the steps read them.
    """
    given: trees.Tree = {}
    with jax.set_mesh(prepared.mesh):
        where = trees.merge(prepared.shardings[0].params, prepared.shardings[1])
        if config.init.checkpoint:
            shapes = trees.merge(prepared.shapes[0].params, prepared.shapes[1])
            given = load_parameters(
                config.init.checkpoint,
                shapes,
                where,
                take=config.init.takes,
                resize_queries=config.init.resize_queries,
                verify=config.checkpoint.verify,
            )
            logging.info(
                "starting weights: %s of %s, the rest at random",
                config.init.take,
                config.init.checkpoint,
            )
        verify = config.checkpoint.verify
        towers = starting.load(config.model, config.init, where, verify=verify)
        given = trees.merge(given, towers)

        def part(index: int):
            """Of (state, frozen); a program each, as one of both would hold its outputs beside all
            that it makes them from: at full size on one chip, twice the memory of a step.
            """
            make = jax.jit(
                lambda seed, given: state_lib.initialize(
                    config.model, config.optim, prepared.tx, seed, given
                )[index],
                out_shardings=prepared.shardings[index],
            )
            return make(jnp.int32(config.seed), given)

        frozen = prepared.to_read(part(1))
        return part(0), frozen


class _Batches:
    """The stream with its batches put on the mesh."""

    def __init__(self, stream, sharding: NamedSharding):
        self._stream, self._sharding = stream, sharding

    def __next__(self) -> Batch:
        return put(next(self._stream), self._sharding)

    def state(self) -> np.ndarray:
        return self._stream.state()


def run(
    config: TrainConfig,
    *,
    workdir: str | Path,
    run_config: dict,
    batch_shapes: Batch,
    group_slots: Sequence[int],
    sources: list[Source],
    open_stream: Callable[[NamedSharding, np.ndarray | None], Any],
    eval_batches: Callable[[NamedSharding], Iterable[Batch]] | None = None,
    score: Callable[[int, trees.Tree], dict[str, float]] | None = None,
) -> tuple[TrainState, trees.Tree]:
    """Train a stage in a work directory, resuming from its newest checkpoint where there is one.

    Args:
      run_config: the whole config as plain data, to be kept beside the weights.
      batch_shapes: ShapeDtypeStructs of the global batch.
      group_slots: image slots of successive groups of rows, over and over (`step.by_slots`).
      sources: what the numbers in `Batch.sources` mean.
      open_stream: from the sharding of batches and an iterator state (None: the beginning) to the
      stream of this process's rows (`placement.held_shards`).
      eval_batches: this process's rows of the held-out batches, the same at each call.
      score: from the steps done and all parameters, in their shards, to scores by name; called
      in every process, under the mesh, wherever held-out losses are taken.

    Returns:
      The final state and the frozen parameters.

    Raises:
      MemoryError: a device has less memory than a step or the start needs; lists what it is for.
    """
    starting.check(config.model, config.init)
    timer = Timer()
    with timer("compile"):
        prepared = prepare(config, batch_shapes, num_sources=len(sources), group_slots=group_slots)
    slots = len(batch_shapes.images) // len(group_slots) * sum(group_slots)
    size = dict(positions=batch_shapes.tokens.size, slots=slots)
    report = Report(Path(workdir), config, sources, prepared.mesh, **size)
    needs = memory(prepared)
    report.memory(needs)
    checkpoints = Checkpoints(workdir, config.checkpoint, run_config)
    with jax.set_mesh(prepared.mesh), report.shortage(needs):
        first, data_state = 0, None
        sharding = rules.batch_sharding(prepared.mesh)
        with timer("start"):
            if checkpoints.latest_step() is None:
                state, frozen = start(config, prepared)
            else:
                shapes, frozen_shapes = prepared.shapes
                shardings, frozen_shardings = prepared.shardings
                first, params, moments, frozen, data_state, _ = checkpoints.restore(
                    params=shapes.params,
                    opt_state=shapes.opt_state,
                    frozen=frozen_shapes,
                    shardings=(shardings.params, shardings.opt_state, frozen_shardings),
                )
                step = jax.device_put(jnp.int32(first), shardings.step)
                state, frozen = TrainState(step, params, moments), prepared.to_read(frozen)
                logging.info("resuming at step %d of %s", first, workdir)
            stream = open_stream(sharding, data_state)
        report.begin(first, stream, timer)
        profiles = Profiles(Path(workdir))

        def evaluate(step: int, state: TrainState) -> None:
            due = step == config.optim.steps or (step and step % config.eval_every == 0)
            if not due:
                return
            batches = (put(b, sharding) for b in eval_batches(sharding)) if eval_batches else ()
            sums = [prepared.eval_step(state.params, frozen, batch) for batch in batches]
            scores = score(step, trees.merge(state.params, frozen)) if score else {}
            report.flush()
            report.evaluation(step, jax.device_get(sums), scores)

        def save(step: int, state: TrainState, data: np.ndarray) -> None:
            due = step == config.optim.steps or (step and step % config.checkpoint.every == 0)
            if due and step != first:
                report.flush()
                checkpoints.save(
                    step,
                    params=state.params,
                    opt_state=state.opt_state,
                    frozen=prepared.to_store(frozen),
                    data=data,
                )

        def log(step: int, metrics: dict[str, Any]) -> None:
            report.step(step, metrics)
            profiles.after(step, metrics)

        try:
            state = loop.train(
                state,
                frozen,
                _Batches(stream, sharding),
                first=first,
                steps=config.optim.steps,
                train_step=prepared.train_step,
                evaluate=evaluate,
                save=save,
                log=log,
                timer=timer,
            )
        finally:
            profiles.close()
            checkpoints.close()
            stream.close()
            report.close()
    return state, prepared.to_store(frozen)
