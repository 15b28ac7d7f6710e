"""Cross-entropy over labelled tokens, chunk by chunk: the full logits never exist.

    hidden_BTD --chunk c of T--> logits_BcV (float32) -> logsumexp - logit[target] -> token
    losses_Bc

Each chunk is recomputed in the backward pass, so that the temporary is one chunk of logits and its
gradient.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32

from qwenvl_jax.batch import IGNORE
from qwenvl_jax.parallel.shard import constrain
from qwenvl_jax.trees import Array


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
      chunk: positions of a row whose logits exist at once; must divide T.
    """
    B, T, D = hidden_BTD.shape
    assert T % chunk == 0, f"loss chunk {chunk} does not divide {T} positions"
    # Gathered here, once, and not by every chunk: 8 times the traffic at the released sizes.
    head_DV = constrain(jnp.asarray(head_DV, hidden_BTD.dtype), None, "vocab")

    @jax.checkpoint
    def one(hidden_BCD, targets_BC):
        hidden_BCD = constrain(hidden_BCD, "batch", None, None)
        logits_BCV = jnp.einsum(
            "bcd,dv->bcv", hidden_BCD, head_DV, preferred_element_type=jnp.float32
        )
        safe_BC = jnp.maximum(targets_BC, 0)
        picked_BC = jnp.take_along_axis(logits_BCV, safe_BC[..., None], axis=-1)[..., 0]
        losses_BC = jax.nn.logsumexp(logits_BCV, axis=-1) - picked_BC
        return jnp.where(targets_BC == IGNORE, 0.0, losses_BC)

    chunks = T // chunk
    hidden_SBCD = hidden_BTD.reshape(B, chunks, chunk, D).swapaxes(0, 1)
    targets_SBC = targets_BT.reshape(B, chunks, chunk).swapaxes(0, 1)
    losses_SBC = jax.lax.map(lambda args: one(*args), (hidden_SBCD, targets_SBC))
    return losses_SBC.swapaxes(0, 1).reshape(B, T)
