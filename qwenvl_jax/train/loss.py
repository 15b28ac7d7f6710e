"""Cross-entropy over labelled tokens alone, chunk by chunk: the full logits never exist.

    hidden_ND --labelled positions first--> hidden_CD --head--> logits_CV (float32)
        -> logsumexp - logit[target]        losses_C
        -> (softmax - target) head^T        slopes_CD, how a token's loss changes with its hidden

A device goes through as many chunks as its own rows have labels for, so work follows what is
labelled, and no number of labels is too many. Slopes are made where the logits are, in the forward
pass: the backward pass only scales them. A trained head's gradient makes the logits once more.
Letters: N positions of a device, C of a chunk, V entries of the vocabulary that a device holds.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.sharding import PartitionSpec
from jaxtyping import Float, Int32

from qwenvl_jax.batch import IGNORE
from qwenvl_jax.parallel.shard import constrain
from qwenvl_jax.trees import Array

ROWS, HEAD = PartitionSpec(("data", "fsdp")), PartitionSpec(None, "tensor")


def token_losses(
    hidden_BTD: Float[Array, "B T D"],
    head_DV: Float[Array, "D V"],
    targets_BT: Int32[Array, "B T"],
    *,
    chunk: int,
) -> Float[Array, "B T"]:
    """Negative log-likelihood of each target in nats, float32; 0 where the target is IGNORE.

    Args:
      hidden_BTD: the decoder's output after its last norm, compute dtype.
      head_DV: the output head.
      targets_BT: the token that follows, IGNORE (-100) where none is supervised.
      chunk: labelled positions of a device whose logits exist at once.
    """
    return _losses(chunk, *map(jnp.asarray, (hidden_BTD, head_DV, targets_BT)))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _losses(chunk, hidden_BTD, head_DV, targets_BT):
    return _forward(chunk, hidden_BTD, head_DV, targets_BT, with_slopes=False)[0]


def _losses_fwd(chunk, hidden, head, targets):
    given = hidden.value, head.value, targets.value
    losses_BT, slopes_BTD = _forward(chunk, *given, with_slopes=hidden.perturbed)
    return losses_BT, (slopes_BTD, given if head.perturbed else None)


def _losses_bwd(chunk, kept, weights_BT):
    if isinstance(weights_BT, SymbolicZero):
        return None, None, None
    slopes_BTD, given = kept
    of_hidden = of_head = None
    if slopes_BTD is not None:
        of_hidden = (slopes_BTD * weights_BT[..., None]).astype(slopes_BTD.dtype)
    if given is not None:
        of_head = _head_gradient(chunk, *given, weights_BT)
    return of_hidden, of_head, None


_losses.defvjp(_losses_fwd, _losses_bwd, symbolic_zeros=True)


def _forward(chunk: int, hidden_BTD, head_DV, targets_BT, *, with_slopes: bool):
    """(losses_BT, slopes_BTD or None), both 0 where nothing is labelled."""

    def local(hidden_BTD, head_DV, targets_BT):
        B, T, D = hidden_BTD.shape
        hidden_ND, targets_N = hidden_BTD.reshape(B * T, D), targets_BT.reshape(B * T)
        is_labelled_N = targets_N != IGNORE

        def add(found, start, where_C, _):
            losses_C, errors_CV = _chunk(hidden_ND[where_C], head_DV, targets_N[where_C])
            slopes_CD = None
            if with_slopes:
                slopes_CD = _over("tensor", jax.lax.psum, _matmul("cv,dv->cd", errors_CV, head_DV))
                slopes_CD = slopes_CD.astype(hidden_ND.dtype)
            write = partial(jax.lax.dynamic_update_slice_in_dim, start_index=start, axis=0)
            return jax.tree.map(write, found, (losses_C, slopes_CD))

        room = -(-B * T // chunk) * chunk
        slopes_MD = jnp.zeros((room, D), hidden_ND.dtype) if with_slopes else None
        found = _each_chunk(add, (jnp.zeros(room), slopes_MD), is_labelled_N, chunk)
        rank_N = jnp.maximum(jnp.cumsum(is_labelled_N) - 1, 0)  # the how-manieth label

        def spread(x_M):
            keep_N = is_labelled_N.reshape(-1, *[1] * (x_M.ndim - 1))
            return jnp.where(keep_N, x_M[rank_N], 0).reshape(B, T, *x_M.shape[1:])

        return jax.tree.map(spread, found)

    run = _on_devices(local, (ROWS, HEAD, ROWS), ROWS)
    return run(hidden_BTD, _gathered(head_DV, hidden_BTD), targets_BT)


def _head_gradient(chunk: int, hidden_BTD, head_DV, targets_BT, weights_BT):
    """Gradient of the weighted sum of losses with respect to the head, in the head's dtype."""

    def local(hidden_BTD, head_DV, targets_BT, weights_BT):
        hidden_ND = hidden_BTD.reshape(-1, hidden_BTD.shape[-1])
        targets_N, weights_N = targets_BT.reshape(-1), weights_BT.reshape(-1)

        def add(total_DV, _, where_C, is_real_C):
            hidden_CD = hidden_ND[where_C]
            _, errors_CV = _chunk(hidden_CD, head_DV, targets_N[where_C])
            weights_C = jnp.where(is_real_C, weights_N[where_C], 0)
            hidden_CD = (hidden_CD * weights_C[:, None]).astype(hidden_CD.dtype)
            return total_DV + _matmul("cd,cv->dv", hidden_CD, errors_CV)

        total_DV = jnp.zeros(head_DV.shape, jnp.float32)
        total_DV = _each_chunk(add, total_DV, targets_N != IGNORE, chunk)
        scatter = partial(jax.lax.psum_scatter, scatter_dimension=0, tiled=True)
        return _over("data", jax.lax.psum, _over("fsdp", scatter, total_DV))

    run = _on_devices(local, (ROWS, HEAD, ROWS, ROWS), PartitionSpec("fsdp", "tensor"))
    given = hidden_BTD, _gathered(head_DV, hidden_BTD), targets_BT, weights_BT
    return run(*given).astype(head_DV.dtype)


def _gathered(head_DV, hidden_BTD):
    """The head in the dtype that is multiplied, gathered once, before the chunks.

    Not before there is something to multiply it with: its gigabyte would lie in memory beside all
    that the blocks keep for their way back.
    """
    head_DV, _ = jax.lax.optimization_barrier((jnp.asarray(head_DV, hidden_BTD.dtype), hidden_BTD))
    return constrain(head_DV, None, "vocab")


def _each_chunk(add: Callable, total, is_labelled_N, chunk: int):
    """`total = add(total, start, where_C, is_real_C)` for labelled positions start, start + 1, ..

    `where_C` are their places; after the last labelled one some other places, where `is_real_C` is
    false.
    """
    count = jnp.sum(is_labelled_N)
    places_M = jnp.argsort(~is_labelled_N, stable=True)
    places_M = jnp.pad(places_M, (0, -len(places_M) % chunk))

    def one(number, total):
        start = number * chunk
        where_C = jax.lax.dynamic_slice_in_dim(places_M, start, chunk)
        return add(total, start, where_C, start + jnp.arange(chunk) < count)

    return jax.lax.fori_loop(0, (count + chunk - 1) // chunk, one, total)


def _chunk(hidden_CD, head_DV, targets_C):
    """(losses_C, errors_CV): softmax minus target, on the entries that this device holds."""
    logits_CV = _matmul("cd,dv->cv", hidden_CD, head_DV)
    entries = head_DV.shape[1]
    first = _over("tensor", lambda _, axis: jax.lax.axis_index(axis) * entries, 0)
    is_target_CV = first + jnp.arange(entries) == targets_C[:, None]
    top_C = _over("tensor", jax.lax.pmax, jnp.max(logits_CV, axis=1))
    total_C = jnp.sum(jnp.exp(logits_CV - top_C[:, None]), axis=1)
    lse_C = top_C + jnp.log(_over("tensor", jax.lax.psum, total_C))
    picked_C = jnp.sum(jnp.where(is_target_CV, logits_CV, 0), axis=1)
    picked_C = _over("tensor", jax.lax.psum, picked_C)
    errors_CV = jnp.exp(logits_CV - lse_C[:, None]) - is_target_CV
    return lse_C - picked_C, errors_CV.astype(hidden_CD.dtype)


def _matmul(equation: str, a, b):
    return jnp.einsum(equation, a, b, preferred_element_type=jnp.float32)


def _over(axis: str, reduce: Callable, x):
    """`reduce(x, axis)` over an axis of the mesh that has more than one device; otherwise `x`."""
    return reduce(x, axis) if jax.sharding.get_abstract_mesh().shape.get(axis, 1) > 1 else x


def _on_devices(local: Callable, in_specs, out_specs) -> Callable:
    """Each device with its own rows and its part of the head; without a mesh, all on one."""
    if jax.sharding.get_abstract_mesh().empty:
        return local
    return jax.shard_map(local, in_specs=in_specs, out_specs=out_specs, check_vma=False)
