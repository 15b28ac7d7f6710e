"""From a TrainConfig and a stream of batches to a trained, checkpointed work directory.

`run` is what a work directory lives through: compile, start or resume, then the loop.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

from qwenvl_jax import trees
from qwenvl_jax.batch import Batch
from qwenvl_jax.checkpoint.load import load_parameters
from qwenvl_jax.checkpoint.manager import Checkpoints
from qwenvl_jax.parallel import rules
from qwenvl_jax.train import guard, loop, starting
from qwenvl_jax.train import state as state_lib
from qwenvl_jax.train.config import TrainConfig
from qwenvl_jax.train.placement import put
from qwenvl_jax.train.profiles import Profiles
from qwenvl_jax.train.program import Prepared, memory, prepare
from qwenvl_jax.train.report import Report, Source
from qwenvl_jax.train.restarts import Restarts
from qwenvl_jax.train.saves import Saves
from qwenvl_jax.train.state import TrainState
from qwenvl_jax.train.stop import Stop, Stopped
from qwenvl_jax.train.timer import Timer
from qwenvl_jax.train.watch import Watch


def start(config: TrainConfig, prepared: Prepared) -> tuple[TrainState, trees.Tree]:
    """The state of step 0, and the frozen parameters as the steps read them."""
    part = starting_parts(config, prepared)
    frozen = prepared.to_read(part(1))
    return part(0), frozen


def starting_parts(config: TrainConfig, prepared: Prepared) -> Callable[[int], Any]:
    """Step 0: random weights or those that `config.init` names, directly in their shards.

    Returns:
      A function of 0 (the state) or 1 (the frozen parameters, as they are stored). Two programs:
      one that made both would hold inputs and outputs at once, twice the memory of a training step.
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
            make = jax.jit(
                lambda seed, given: state_lib.initialize(
                    config.model, config.optim, prepared.tx, seed, given
                )[index],
                out_shardings=prepared.shardings[index],
            )
            with jax.set_mesh(prepared.mesh):
                return make(jnp.int32(config.seed), given)

        return part


class _Begun(NamedTuple):
    first: int  # the step that comes next
    state: TrainState
    frozen: trees.Tree  # as the steps read it
    data: np.ndarray | None  # the stream's state; None: its beginning


def resume(
    config: TrainConfig,
    prepared: Prepared,
    checkpoints: Checkpoints,
    restarts: Restarts,
    *,
    step: int | None,
) -> _Begun:
    """Where a kept step ended; the newest intact one where `step` is None."""
    shapes, frozen_shapes = prepared.shapes
    shardings, frozen_shardings = prepared.shardings
    kept = checkpoints.restore(
        params=shapes.params,
        opt_state=shapes.opt_state,
        frozen=frozen_shapes,
        shardings=(shardings.params, shardings.opt_state, frozen_shardings),
        step=step,
        remake_frozen=lambda: starting_parts(config, prepared)(1),
    )
    known = guard.from_plain(kept.extra.get("guard", {}))
    restarts.read(kept.extra)
    state = TrainState(
        jax.device_put(jnp.int32(kept.step), shardings.step),
        kept.params,
        kept.opt_state,
        jax.tree.map(jax.device_put, known, shardings.guard),
    )
    return _Begun(kept.step, state, prepared.to_read(kept.frozen), kept.data)


# From the steps done, all parameters and what asks whether to end, to scores by name; None where it
# ended early.
Score = Callable[[int, trees.Tree, Callable[[], bool]], dict[str, float] | None]


def never() -> bool:
    """Asks nobody, for a run without signals."""
    return False


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
    score: Score | None = None,
    stop: Stop | None = None,
    inputs: Mapping[str, str] = MappingProxyType({}),
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
      stop: the signals that end a run early; none by default.
      inputs: config key -> file that must be the same at every resume.

    Returns:
      The final state and the frozen parameters.

    Raises:
      BadSteps: as many steps in a row were skipped as `config.optim.max_bad_steps` allows, or the
      run's last steps were not finite.
      Stopped: `stop` ended the run early; it is saved.
      MemoryError: a device has less memory than a step or the start needs; lists what it is for.
    """
    starting.check(config.model, config.init)
    timer = Timer()
    with timer("compile"):
        prepared = prepare(config, batch_shapes, num_sources=len(sources), group_slots=group_slots)
    slots = len(batch_shapes.images) // len(group_slots) * sum(group_slots)
    size = dict(positions=batch_shapes.tokens.size, slots=slots)
    report = Report(Path(workdir), config, sources, prepared.mesh, **size)
    watch = Watch(Path(workdir), report.events)
    needs = memory(prepared)
    report.memory(needs)
    checkpoints = Checkpoints(workdir, config.checkpoint, run_config, inputs=inputs)
    restarts = Restarts(config.resume)
    with jax.set_mesh(prepared.mesh), report.shortage(needs):
        sharding = rules.batch_sharding(prepared.mesh)
        with timer("start"):
            if checkpoints.latest_step() is None:
                restarts.refuse_without_checkpoint(workdir)
                begun = _Begun(0, *start(config, prepared), None)
                report.events.write("started", 0)
            else:
                back = restarts.step_to_go_back_to(workdir)
                begun = resume(config, prepared, checkpoints, restarts, step=back)
                if begun.first == config.optim.steps and report.events.finished(begun.first):
                    logging.info("step %d of %s is the last, and done", begun.first, workdir)
                    checkpoints.close()
                    return begun.state, prepared.to_store(begun.frozen)
                report.events.write("resumed", begun.first)
                logging.info("resuming at step %d of %s", begun.first, workdir)
            first, state, frozen, data_state = begun
            stream = open_stream(sharding, data_state)
            restarts.skip(stream, first, report.events)
        report.begin(first, stream, timer)
        profiles = Profiles(Path(workdir))
        saves = Saves(
            config, checkpoints, report, restarts, first=first, to_store=prepared.to_store
        )

        def evaluate(step: int, state: TrainState) -> bool:
            due = step == config.optim.steps or (step and step % config.eval_every == 0)
            if not due:
                return True
            report.flush()
            sums = []
            for batch in eval_batches(sharding) if eval_batches else ():
                losses = prepared.eval_step(state.params, frozen, put(batch, sharding))
                sums.append(jax.device_get(losses))
                watch.other()
                if asked():
                    return False
            params = trees.merge(state.params, frozen)
            scores = score(step, params, asked) if score else {}
            if scores is None:
                return False
            watch.other()
            losses = report.evaluation(step, sums, scores)
            if losses:
                checkpoints.scored(step, losses["heldout"])
            return True

        def log(step: int, metrics: dict[str, Any]) -> None:
            watch.step(step)
            report.step(step, metrics)
            profiles.after(step, metrics)

        if stop:
            stop.loop()
        asked = stop.boundary if stop else never
        with contextlib.ExitStack() as opened:  # an error of one must not leave the others open
            for close in (report.close, stream.close, checkpoints.close, profiles.close):
                opened.callback(close)
            opened.enter_context(watch)
            state = loop.train(
                state,
                frozen,
                _Batches(stream, sharding),
                first=first,
                steps=config.optim.steps,
                train_step=prepared.train_step,
                save=partial(saves, frozen),
                evaluate=evaluate,
                log=log,
                stop=asked,
                timer=timer,
            )
    done = int(state.step)
    if stop and stop.ended:
        # A scheduler ends the others once one process has exited.
        multihost_utils.sync_global_devices("stopped")
        report.events.write("stopped", done, why=stop.why)
        raise Stopped(stop.why, done, workdir, saved=saves.newest)
    report.events.write("finished", done)
    return state, prepared.to_store(frozen)
