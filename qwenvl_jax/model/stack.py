"""Layers stacked on a leading axis: the only place of `nn.scan` and `nn.remat`."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# Each a `checkpoint_name`: what attention is given (rotated, cut up, biases added), and comes to.
QKV, ATTENTION = "qkv", "attention"


def _is_fused_attention(primitive, *_, **__) -> bool:
    """Whether it is cuDNN's forward pass, whose second result only JAX's gradient of it gets."""
    return primitive.name == "dot_product_attention_fwd_wrapper"


_either = jax.checkpoint_policies.save_from_both_policies
# What a block keeps for the backward pass; the rest is computed again. `dots`: every product with a
# weight and what attention is given and comes to, so that norms and activations alone are repeated
# (and the product before what attention is given is not needed).
POLICIES = {
    "dots": _either(
        _either(
            jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
            jax.checkpoint_policies.save_only_these_names(QKV, ATTENTION),
        ),
        _is_fused_attention,
    ),
    "full": jax.checkpoint_policies.nothing_saveable,
}


def stack(
    block: type[nn.Module],
    *,
    layers: int,
    remat: str,
    scan: bool,
    apart: bool = False,
    **fields: Any,
) -> nn.Module:
    """`layers` copies of a block as one module whose parameters have a leading layer axis.

    The block is called as `block(carry, per_layer, shared) -> (carry, output)`; `per_layer` and
    `output` have the leading layer axis outside. `scan=False` unrolls the loop over the same
    stacked parameters; `apart`: the parameters were taken apart, and layers are a row in any case.
    """
    if apart:
        name = fields.pop("name", None)
        return Apart(block, layers, remat, fields, name=name)
    scanned = nn.scan(
        _remat(block, remat, scan=scan),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(0, nn.broadcast),
        length=layers,
        unroll=1 if scan else layers,
    )
    return scanned(**fields)


def _remat(block: type[nn.Module], remat: str, *, scan: bool) -> type[nn.Module]:
    if remat == "none":
        return block
    return nn.remat(block, policy=POLICIES[remat], prevent_cse=not scan)


class Apart(nn.Module):
    """Layers in a row, over parameters that `take_apart` made."""

    block: type[nn.Module]
    layers: int
    remat: str
    fields: dict[str, Any]

    @nn.compact
    def __call__(self, carry, per_layer, shared):
        block, outputs = _remat(self.block, self.remat, scan=False), []
        for i in range(self.layers):
            layer = jax.tree.map(lambda x, i=i: x[i], per_layer)
            carry, output = block(**self.fields, name=str(i))(carry, layer, shared)
            outputs.append(output)
        return carry, jax.tree.map(lambda *x: jnp.stack(x), *outputs)


def take_apart(stacked: Any) -> dict[str, Any]:
    """Stacked parameters as an array a layer.

    A product reads a layer's weights where they lie only if they are an array of their own: of a
    stack XLA makes a copy of every layer first. This costs a step of decoding two thirds of its
    time, and a step of training a GPU's memory for all layers, or a copy a microbatch. So who
    decodes takes them apart once, before the loop, a step of unrolled layers what it trains before
    its microbatches, and what a stage leaves frozen is kept so between steps.
    """
    layers = len(jax.tree.leaves(stacked)[0])
    return {str(i): jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(layers)}


def put_together(apart: dict[str, Any]) -> Any:
    """What `take_apart` was given."""
    return jax.tree.map(lambda *x: jnp.stack(x), *(apart[str(i)] for i in range(len(apart))))


def is_apart(tower: Any) -> bool:
    """Whether `take_apart` made the blocks of these parameters of a tower."""
    return "0" in tower.get("blocks", {})
