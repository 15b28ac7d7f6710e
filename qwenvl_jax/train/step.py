"""One optimiser step: gradients of the trainable part, accumulated over microbatches by scans."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from qwenvl_jax import trees
from qwenvl_jax.batch import IGNORE, Batch
from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.parallel.shard import constrain
from qwenvl_jax.train import guard, optim
from qwenvl_jax.train.loss import token_losses
from qwenvl_jax.train.optim import OptimConfig
from qwenvl_jax.train.state import TrainState
from qwenvl_jax.trees import Array

Metrics = dict[str, Any]


def batch_losses(
    model: ModelConfig, params: trees.Tree, batch: Batch, *, chunk: int
) -> Float[Array, "B T"]:
    """Loss of every labelled token of a batch in nats, float32; 0 elsewhere."""
    hidden_BTD = qwenvl.hidden(model, params, batch)
    head_DV = params["decoder"]["head"]["kernel"]
    return token_losses(hidden_BTD, head_DV, batch.targets, chunk=chunk)


def by_source(losses_BT: jax.Array, batch: Batch, num_sources: int) -> Metrics:
    """Sum of losses and number of labelled tokens of each source."""
    labelled_BT = batch.targets != IGNORE
    hits_SBT = labelled_BT & (batch.sources == jnp.arange(num_sources)[:, None, None])
    sums_S = jnp.sum(jnp.where(hits_SBT, losses_BT, 0.0), axis=(1, 2))
    return {"loss_sum": sums_S, "labelled": jnp.sum(hits_SBT, axis=(1, 2)).astype(jnp.float32)}


def microbatches(batch: Batch, count: int) -> Batch:
    """(B, ..) -> (count, B / count, ..): microbatch m takes groups of rows m, m + count, ..

    Strided, because a device holds consecutive rows: every device then has its share of each
    microbatch. Whole groups, because their rows share images.
    """
    groups = batch.images.shape[0]

    def split(x):
        # No -1: a batch without image slots has no size to divide.
        rows = x.reshape(groups // count, count, x.shape[0] // groups, *x.shape[1:]).swapaxes(0, 1)
        rows = rows.reshape(count, x.shape[0] // count, *x.shape[1:])
        return constrain(rows, None, "batch", *[None] * (x.ndim - 1))

    return jax.tree.map(split, batch)


def by_slots(micro: Batch, group_slots: Sequence[int]) -> list[Batch]:
    """Microbatches (M, ..) by the number of image slots that their groups of rows have, and images
    and mask cut to these: microbatch m's have group_slots[m % len(group_slots)].

    A microbatch that computes fewer images than others is another program, so equal numbers, which
    stand side by side, are one.
    """
    turns, first, parts = len(group_slots), 0, []
    for slots, same in itertools.groupby(group_slots):
        here = slice(first, first + len(list(same)))
        part = jax.tree.map(partial(_of_turns, turns=turns, here=here), micro)
        images, mask = part.images[:, :, :slots], part.image_mask[:, :, :slots]
        parts.append(part._replace(images=images, image_mask=mask))
        first = here.stop
    return parts


def _of_turns(x: jax.Array, *, turns: int, here: slice) -> jax.Array:
    """(M, ..) -> those whose number, modulo `turns`, is in a slice."""
    rounds = x.reshape(x.shape[0] // turns, turns, *x.shape[1:])[:, here]
    return rounds.reshape(rounds.shape[0] * rounds.shape[1], *x.shape[1:])


def as_multiplied(model: ModelConfig, params: trees.Tree, frozen: trees.Tree) -> trees.Tree:
    """Trained parameters as a step's products read them, made once for all microbatches: matrices
    in the compute dtype and, with unrolled layers, a tower's blocks an array a layer.

    Each layer would do the same, and its gradient would come in the same dtype: what is left out
    is to do so in every microbatch, forth and back. The loss casts the head by itself, as its
    gradient is summed over chunks in float32.
    """

    def cast(path: str, x: Array) -> Array:
        matrix = path.endswith(("kernel", "embedding")) and path != "decoder/head/kernel"
        return x.astype(model.dtype) if matrix else x

    params = trees.map_with_path(cast, params)
    if model.scan_layers:
        return params
    return qwenvl.blocks_apart(params, towers=qwenvl.whole_towers(params, frozen))


def make_train_step(
    model: ModelConfig,
    config: OptimConfig,
    tx: optax.GradientTransformation,
    *,
    num_sources: int,
    chunk: int,
    group_slots: Sequence[int] = (),
) -> Callable[[TrainState, trees.Tree, Batch], tuple[TrainState, Metrics]]:
    """The step function, to be jitted with `state` donated.

    The loss is the mean over the labelled tokens of the whole batch, so a microbatch adds its SUM
    divided by the batch's count: accumulation equals the large batch, whatever is labelled where.

    Args:
      chunk: labelled positions whose logits exist at once.
      group_slots: image slots of successive groups of rows, over and over: what lies beyond them in
      a batch is empty and is not computed (`by_slots`). All that the batch has by default.
    """
    rates = optim.schedule(config)

    def step(state: TrainState, frozen: trees.Tree, batch: Batch):
        labelled = jnp.maximum(jnp.sum(batch.targets != IGNORE), 1)

        def loss_of(params, micro: Batch):
            losses_BT = batch_losses(model, trees.merge(params, frozen), micro, chunk=chunk)
            return jnp.sum(losses_BT) / labelled, by_source(losses_BT, micro, num_sources)

        def accumulate(grads, micro: Batch):
            (_, sums), new = jax.value_and_grad(loss_of, has_aux=True)(read, micro)
            return jax.tree.map(lambda total, x: total + x.astype(total.dtype), grads, new), sums

        read = as_multiplied(model, state.params, frozen)
        grads = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), read)
        micro, parts = microbatches(batch, config.accumulation), []
        for part in by_slots(micro, group_slots or batch.image_mask.shape[1:]):
            grads, sums = jax.lax.scan(accumulate, grads, part)
            parts.append(sums)
        grads = qwenvl.blocks_together(grads)
        sums = jax.tree.map(lambda *x: sum(jnp.sum(part, axis=0) for part in x), *parts)
        loss, norm = jnp.sum(sums["loss_sum"]) / labelled, optax.tree.norm(grads)
        verdict = guard.judge(state.guard, loss, norm, deviations=config.skip_spikes)
        params, opt_state = _applied(tx, grads, state, verdict == guard.APPLIED)
        metrics = {
            "loss": loss,
            "lr": rates(state.step),
            "grad_norm": norm,
            "verdict": verdict,
            "tokens": jnp.sum(batch.segments > 0),
            "images": jnp.sum(batch.image_mask),
            "samples": jnp.sum(jnp.max(batch.segments, axis=1)),
            **sums,
            **optim.tower_norms(grads),
        }
        known = guard.after(state.guard, verdict, loss, norm)
        return TrainState(state.step + 1, params, opt_state, known), metrics

    return step


def _applied(
    tx: optax.GradientTransformation, grads: trees.Tree, state: TrainState, ok: Array
) -> tuple[trees.Tree, optax.OptState]:
    """(parameters, optimiser state) after a step that is `ok`, and those before it, to the bit,
    after one that is not.

    The learning rate's schedule, the last transform of the chain, counts a skipped step as well:
    the rate is a function of the step's number.
    """
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)

    def kept(new, old):
        return jax.tree.map(lambda x, before: jnp.where(ok, x, before), new, old)

    moments = kept(opt_state[:-1], state.opt_state[:-1])
    return kept(params, state.params), (*moments, opt_state[-1])


def make_eval_step(
    model: ModelConfig, *, num_sources: int, chunk: int
) -> Callable[[trees.Tree, trees.Tree, Batch], Metrics]:
    """(trainable, frozen, batch) -> loss sums and labelled tokens by source."""

    def step(params: trees.Tree, frozen: trees.Tree, batch: Batch) -> Metrics:
        losses_BT = batch_losses(model, trees.merge(params, frozen), batch, chunk=chunk)
        return by_source(losses_BT, batch, num_sources)

    return step
