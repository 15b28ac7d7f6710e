"""Prefill and decoding in one compiled program.

Prompts of a batch may differ in length and in how many pictures they show. They are padded on the
right, and the cache has a slot for every padded and every new position. All rows write step i at
slot T + i, whatever their length: what a slot means is told by its segment and position.

    slots        0 1 2 3 4 | 5 6 7           T = 5 prompt slots, 3 new ones
    row 0        a b c d e | x y z           positions 0 1 2 3 4 | 5 6 7
    row 1        a b . . . | x y z           positions 0 1 . . . | 2 3 4

Dots are in segment 0: nobody sees them.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Int32, UInt8

from qwenvl_jax.inference.sample import choose
from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.model.decoder import Cache
from qwenvl_jax.model.mask import Visibility
from qwenvl_jax.trees import Array


class _Loop(NamedTuple):
    step: Int32[Array, ""]
    token_B: Int32[Array, "B"]  # the newest token of each row
    done_B: Bool[Array, "B"]
    cache: Cache
    segments_BS: Int32[Array, "B S"]
    out_BG: Int32[Array, "B G"]


def empty_cache(config: ModelConfig, rows: int, slots: int) -> Cache:
    """Zeros for every layer in the compute dtype."""
    d = config.decoder
    zeros = jnp.zeros((d.layers, rows, slots, d.heads, d.head_width), config.dtype)
    return Cache(zeros, zeros)


@functools.partial(
    jax.jit, static_argnames=("config", "max_new_tokens", "stop_ids", "temperature", "top_p")
)
def generate(
    config: ModelConfig,
    params: Any,
    tokens_BT: Int32[Array, "B T"],
    lengths_B: Int32[Array, "B"],
    images_BIRRC: UInt8[Array, "B I R R C"],
    *,
    max_new_tokens: int,
    stop_ids: tuple[int, ...],
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | Int32[Array, ""] = 0,
) -> Int32[Array, "B G"]:
    """Continue every prompt until one of `stop_ids` or for `max_new_tokens` (G).

    Beyond the training length the NTK base is that of each row's prompt; log-n goes by position.

    Args:
      tokens_BT: prompts, padded on the right.
      lengths_B: their lengths, at least 1.
      images_BIRRC: pictures in the order of their `<imgpad>` runs; empty slots at the end.

    Returns:
      The new tokens; after its first stop token a row repeats that token.

    Raises:
      ValueError: `max_new_tokens` below 1, `temperature` below 0 or `top_p` outside (0, 1].
    """
    if max_new_tokens < 1:
        raise ValueError(f"generate: max_new_tokens={max_new_tokens} must be at least 1")
    if not temperature >= 0:
        raise ValueError(f"generate: temperature={temperature} must not be negative")
    if not 0 < top_p <= 1:
        raise ValueError(f"generate: top_p={top_p} must be above 0 and at most 1")
    B, T = tokens_BT.shape
    S = T + max_new_tokens
    slots_S = jnp.arange(S)
    inside_BS = slots_S < lengths_B[:, None]
    # A prompt slot's position is its index; new slot T + i stands at position length + i.
    new_BS = lengths_B[:, None] + slots_S - T
    positions_BS = jnp.where(slots_S < T, slots_S, new_BS).astype(jnp.int32)
    segments_BS = inside_BS.astype(jnp.int32)

    def forward(x_BTD, q_positions, q_segments, segments, cache, slot):
        alpha_B, q_scale = qwenvl.long_context(config, q_positions, lengths_B, "eval")
        visibility = Visibility(q_segments, q_positions, segments, positions_BS)
        return qwenvl.decode(
            config,
            params,
            x_BTD,
            visibility,
            alpha_B=alpha_B,
            q_scale_BT11=q_scale,
            cache=cache,
            slot=slot,
        )

    def pick(hidden_BD, step):
        logits_BV = qwenvl.logits(config, params, hidden_BD[:, None])[:, 0]
        key = jax.random.fold_in(jax.random.key(seed), step)
        return choose(logits_BV, key, temperature=temperature, top_p=top_p)

    def stops(token_B):
        return jnp.isin(token_B, jnp.array(stop_ids, jnp.int32))

    x_BTD = qwenvl.embed(config, params, tokens_BT, images_BIRRC)
    hidden_BTD, cache = forward(
        x_BTD, positions_BS[:, :T], segments_BS[:, :T], segments_BS, empty_cache(config, B, S), 0
    )
    last_BD = jnp.take_along_axis(hidden_BTD, lengths_B[:, None, None] - 1, axis=1)[:, 0]
    first_B = pick(last_BD, 0)
    out_BG = jnp.zeros((B, max_new_tokens), jnp.int32).at[:, 0].set(first_B)
    start = _Loop(jnp.int32(1), first_B, stops(first_B), cache, segments_BS, out_BG)

    def more(loop: _Loop):
        return (loop.step < max_new_tokens) & ~jnp.all(loop.done_B)

    def advance(loop: _Loop) -> _Loop:
        slot = T + loop.step - 1
        segments = loop.segments_BS.at[:, slot].set(1)
        positions_B1 = jax.lax.dynamic_slice_in_dim(positions_BS, slot, 1, axis=1)
        no_images = images_BIRRC[:, :0]
        x_B1D = qwenvl.embed(config, params, loop.token_B[:, None], no_images)
        ones_B1 = jnp.ones((B, 1), jnp.int32)
        hidden_B1D, cache = forward(x_B1D, positions_B1, ones_B1, segments, loop.cache, slot)
        token_B = jnp.where(loop.done_B, loop.token_B, pick(hidden_B1D[:, 0], loop.step))
        out_BG = loop.out_BG.at[:, loop.step].set(token_B)
        return _Loop(loop.step + 1, token_B, stops(token_B), cache, segments, out_BG)

    end = jax.lax.while_loop(more, advance, start)
    # Steps that no row needed any more were not run.
    return jnp.where(jnp.arange(max_new_tokens) < end.step, end.out_BG, end.token_B[:, None])
