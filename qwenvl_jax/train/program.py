"""A stage's programs, compiled for a mesh before any weight exists."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from qwenvl_jax import trees
from qwenvl_jax.batch import Batch
from qwenvl_jax.model import qwenvl
from qwenvl_jax.parallel import mesh as mesh_lib
from qwenvl_jax.parallel import rules
from qwenvl_jax.train import optim
from qwenvl_jax.train import state as state_lib
from qwenvl_jax.train.config import TrainConfig
from qwenvl_jax.train.state import TrainState
from qwenvl_jax.train.step import make_eval_step, make_train_step

# A product with a weight that is split over `fsdp` is to wait for the whole weight. XLA's other way
# (above 256 MiB) sends parts around in a ring and adds up as many partial products as there are
# devices, each as large as the result and through the memory.
# On GPUs XLA computes things again, products with weights among them, once a step needs more than
# three quarters of the memory. What is computed again is for `config.model.remat` to say; XLA
# begins at nine tenths.
OPTIONS = {
    "tpu": {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"},
    "gpu": {"xla_gpu_memory_limit_slop_factor": "130"},
}


class Prepared(NamedTuple):
    """A stage on a mesh: shapes, shardings and compiled programs; no weights yet."""

    mesh: Mesh
    tx: optax.GradientTransformation
    shapes: tuple[TrainState, trees.Tree]  # (state, frozen)
    shardings: tuple[TrainState, trees.Tree]
    train_step: jax.stages.Compiled
    eval_step: Callable[[trees.Tree, trees.Tree, Batch], dict[str, Any]]
    to_read: Callable[[trees.Tree], trees.Tree]  # frozen parameters, stored -> as the steps want
    to_store: Callable[[trees.Tree], trees.Tree]  # and back


def prepare(
    config: TrainConfig,
    batch_shapes: Batch,
    *,
    num_sources: int,
    group_slots: Sequence[int] = (),
    devices=None,
) -> Prepared:
    """Check the config against the mesh, then compile the train step.

    Args:
      batch_shapes: ShapeDtypeStructs of a global batch.
      group_slots: see `step.make_train_step`.
      devices: what to build the mesh of; all devices by default.

    Raises:
      ValueError: sizes that do not fit the mesh; names dim and axis.
    """
    mesh = mesh_lib.make_mesh(config.mesh, devices)
    check(config, batch_shapes, mesh, turns=len(group_slots) or 1)
    tx = optim.make_optimizer(config.optim, config.model.vit.layers)
    shapes, shardings = layout(config, mesh)
    sizes = {"num_sources": num_sources, "chunk": config.loss_chunk}
    frozen, where, to_read, to_store = _as_read(config, shapes, shardings)
    batch_sharding = jax.tree.map(lambda _: rules.batch_sharding(mesh), batch_shapes)
    step = jax.jit(
        make_train_step(config.model, config.optim, tx, group_slots=group_slots, **sizes),
        in_shardings=(shardings[0], where, batch_sharding),
        out_shardings=(shardings[0], rules.replicated(mesh)),
        donate_argnums=0,
    )
    evaluate = jax.jit(
        make_eval_step(config.model, **sizes),
        in_shardings=(shardings[0].params, where, batch_sharding),
        out_shardings=rules.replicated(mesh),
    )
    options = OPTIONS.get(mesh.devices.flat[0].platform, {})
    with jax.set_mesh(mesh):
        compiled = step.lower(shapes[0], frozen, batch_shapes).compile(compiler_options=options)
    return Prepared(mesh, tx, shapes, shardings, compiled, evaluate, to_read, to_store)


def _as_read(config: TrainConfig, shapes: tuple, shardings: tuple):
    """(shapes, shardings, to_read, to_store) of the frozen parameters as the steps read them: with
    unrolled layers, the blocks of a frozen tower are an array a layer.
    """
    (state, frozen), places = shapes, shardings[1]
    towers = () if config.model.scan_layers else qwenvl.whole_towers(frozen, state.params)
    if not towers:
        return frozen, places, lambda x: x, lambda x: x

    def layer(stack: NamedSharding) -> NamedSharding:
        return NamedSharding(stack.mesh, PartitionSpec(*stack.spec[1:]))

    take_apart = partial(qwenvl.blocks_apart, towers=towers)
    apart, where = jax.eval_shape(take_apart, frozen), dict(places)
    for name in towers:
        blocks = jax.tree.map(layer, places[name]["blocks"])
        where[name] = places[name] | {"blocks": dict.fromkeys(apart[name]["blocks"], blocks)}
    return (
        apart,
        where,
        jax.jit(take_apart, out_shardings=where),
        jax.jit(qwenvl.blocks_together, out_shardings=places),
    )


def check(config: TrainConfig, batch_shapes: Batch, mesh: Mesh, *, turns: int = 1) -> None:
    """Whether rows and heads divide over the mesh; `layout` looks at the parameters.

    Args:
      turns: what the number of microbatches is a multiple of (`TrainConfig.check_batch`).

    Raises:
      ValueError: names config key, axis and sizes that work.
    """
    _check_rows(batch_shapes, config, mesh, turns)
    _check_heads(config, mesh)


def layout(config: TrainConfig, mesh: Mesh) -> tuple[tuple, tuple]:
    """Shapes and shardings of (state, frozen parameters) on a mesh.

    Raises:
      ValueError: a parameter's dim does not divide by its mesh axis.
    """
    tx = optim.make_optimizer(config.optim, config.model.vit.layers)
    shapes = jax.eval_shape(lambda s: state_lib.initialize(config.model, config.optim, tx, s), 0)
    return shapes, state_lib.shardings(mesh, tx, *shapes)


def _check_rows(batch_shapes: Batch, config: TrainConfig, mesh: Mesh, turns: int) -> None:
    ways, count = mesh.shape["data"] * mesh.shape["fsdp"], config.optim.accumulation
    rows, groups = batch_shapes.tokens.shape[0], batch_shapes.images.shape[0]
    unit = ways * count * (rows // groups)
    if rows % unit:
        near = [n * unit for n in (rows // unit, rows // unit + 1) if n]
        fewer = [n for n in range(turns, count, turns) if groups % (ways * n) == 0]
        more = f"; or config.optim.accumulation of {fewer}" if fewer else ""
        raise ValueError(
            f"config.data.global_rows={rows} does not divide over data x fsdp = {ways} devices in"
            f" config.optim.accumulation={count} microbatches of whole groups of"
            f" config.data.slot_rows / slot_turns = {rows // groups} rows; nearest that do: {near}"
            + more
        )


def _check_heads(config: TrainConfig, mesh: Mesh) -> None:
    """Heads are split over `tensor` even where no parameter of theirs shows it."""
    tensor = mesh.shape["tensor"]
    for tower in ("vit", "adapter", "decoder"):
        heads = getattr(config.model, tower).heads
        if heads % tensor:
            fits = [n for n in range(1, heads + 1) if heads % n == 0]
            raise ValueError(
                f"config.mesh.tensor={tensor} does not divide config.model.{tower}.heads={heads};"
                f" sizes that do: {fits}"
            )


def memory(prepared: Prepared) -> dict[str, int]:
    """Bytes a device needs for a step, by kind: arguments by name, the rest as the compiler counts
    it. Gradients and activations are among the temporaries.
    """
    (state, frozen), (places, frozen_places) = prepared.shapes, prepared.shardings
    stats = prepared.train_step.memory_analysis()
    kinds = {
        "parameters": _bytes(state.params, places.params),
        "moments": _bytes(state.opt_state, places.opt_state),
        "frozen parameters": _bytes(frozen, frozen_places),
    }
    kinds["batch"] = max(stats.argument_size_in_bytes - sum(kinds.values()), 0)
    kinds["outputs"] = stats.output_size_in_bytes - stats.alias_size_in_bytes
    return kinds | {"temporaries": max(height(prepared) - sum(kinds.values()), 0)}


def _bytes(shapes: trees.Tree, places: trees.Tree) -> int:
    """Of a device's part of arrays."""
    return sum(
        math.prod(place.shard_shape(shape.shape)) * shape.dtype.itemsize
        for shape, place in zip(jax.tree.leaves(shapes), jax.tree.leaves(places), strict=True)
    )


def height(prepared: Prepared) -> int:
    """Bytes that a device holds when the step needs most, its code aside.

    libtpu's size of temporaries is no part of such a count: a step that it compiled for chips of
    15.75 GiB came to 16.03 with it and to 13.90 by the height, the loss head alone to 0.4 MiB and
    to 54.
    """
    stats = prepared.train_step.memory_analysis()
    if prepared.mesh.devices.flat[0].platform == "tpu":
        return stats.peak_memory_in_bytes
    arguments, outputs = stats.argument_size_in_bytes, stats.output_size_in_bytes
    return arguments + outputs - stats.alias_size_in_bytes + stats.temp_size_in_bytes
