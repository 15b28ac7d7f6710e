"""Keys and values of what was read, and how a row grows by a token.

Prompts of a batch may differ in length and in how many pictures they show. They are padded on the
right, and the cache has a slot for every padded and every new position. All rows write step i at
slot T + i, whatever their length: what a slot means is told by its segment and position.

    slots        0 1 2 3 4 | 5 6 7           T = 5 prompt slots, 3 new ones
    row 0        a b c d e | x y z           positions 0 1 2 3 4 | 5 6 7
    row 1        a b . . . | x y z           positions 0 1 . . . | 2 3 4

Dots are in segment 0: nobody sees them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32, UInt8

from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.model.decoder import Cache
from qwenvl_jax.model.mask import Visibility
from qwenvl_jax.parallel.shard import constrain
from qwenvl_jax.trees import Array

CACHE_AXES = (None, "batch", "heads", None, None)  # of (L, B, N, S, H), for `constrain`


class Rows(NamedTuple):
    """What has been read so far; S slots, filled or free."""

    cache: Cache
    segments_BS: Int32[Array, "B S"]  # 1 where a token stands
    positions_BS: Int32[Array, "B S"]
    lengths_B: Int32[Array, "B"]  # of the prompts


def prefill(
    config: ModelConfig,
    params: Any,
    tokens_BT: Int32[Array, "B T"],
    lengths_B: Int32[Array, "B"],
    images_BIRRC: UInt8[Array, "B I R R C"],
    *,
    max_new_tokens: int,
) -> tuple[Float[Array, "B D"], Rows]:
    """Read the prompts: (the decoder's output at each prompt's last token, the rows).

    Args:
      tokens_BT: prompts, padded on the right.
      lengths_B: their lengths, at least 1.
      images_BIRRC: pictures in the order of their `<imgpad>` runs; empty slots at the end.
    """
    B, T = tokens_BT.shape
    slots_S = jnp.arange(T + max_new_tokens)
    # A prompt slot's position is its index; new slot T + i stands at position length + i.
    new_BS = lengths_B[:, None] + slots_S - T
    rows = Rows(
        cache=_empty(config, B, T + max_new_tokens),
        segments_BS=(slots_S < lengths_B[:, None]).astype(jnp.int32),
        positions_BS=jnp.where(slots_S < T, slots_S, new_BS).astype(jnp.int32),
        lengths_B=lengths_B,
    )
    x_BTD = qwenvl.embed(config, params, tokens_BT, images_BIRRC)
    queries = rows.segments_BS[:, :T], rows.positions_BS[:, :T]
    hidden_BTD, rows = _forward(config, params, x_BTD, queries, rows, 0)
    last_BD = jnp.take_along_axis(hidden_BTD, lengths_B[:, None, None] - 1, axis=1)[:, 0]
    return last_BD, rows


def grow(
    config: ModelConfig,
    params: Any,
    rows: Rows,
    token_B: Int32[Array, "B"],
    slot: Int32[Array, ""],
) -> tuple[Float[Array, "B D"], Rows]:
    """Read one more token of every row into `slot`: (the decoder's output there, the rows)."""
    B = token_B.shape[0]
    side = config.vit.image_size
    no_images = jnp.zeros((B, 0, side, side, 3), jnp.uint8)
    x_B1D = qwenvl.embed(config, params, token_B[:, None], no_images)
    rows = rows._replace(segments_BS=rows.segments_BS.at[:, slot].set(1))
    positions_B1 = jax.lax.dynamic_slice_in_dim(rows.positions_BS, slot, 1, axis=1)
    queries = jnp.ones((B, 1), jnp.int32), positions_B1
    hidden_B1D, rows = _forward(config, params, x_B1D, queries, rows, slot)
    return hidden_B1D[:, 0], rows


def _forward(config: ModelConfig, params, x_BTD, queries, rows: Rows, slot):
    """Beyond the training length the NTK base is that of each row's prompt; log-n goes by
    position.
    """
    segments_BT, positions_BT = queries
    alpha_B, q_scale_BT11 = qwenvl.long_context(config, positions_BT, rows.lengths_B, "eval")
    hidden_BTD, cache = qwenvl.decode(
        config,
        params,
        x_BTD,
        Visibility(segments_BT, positions_BT, rows.segments_BS, rows.positions_BS),
        alpha_B=alpha_B,
        q_scale_BT11=q_scale_BT11,
        cache=rows.cache,
        slot=slot,
    )
    return hidden_BTD, rows._replace(cache=cache)


def _empty(config: ModelConfig, rows: int, slots: int) -> Cache:
    """Zeros for every layer in the compute dtype, split as rows and heads are."""
    d = config.decoder
    zeros = jnp.zeros((d.layers, rows, d.heads, slots, d.head_width), config.dtype)
    zeros = constrain(zeros, *CACHE_AXES)
    return Cache(zeros, zeros)
