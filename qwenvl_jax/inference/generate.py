"""Prefill and decoding in one compiled program: greedy, or drawn with temperature and top-p."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Int32, UInt8

from qwenvl_jax.inference.cache import Rows, grow, prefill
from qwenvl_jax.inference.sample import Nucleus, best, draw
from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.trees import Array


class _Loop(NamedTuple):
    step: Int32[Array, ""]
    token_B: Int32[Array, "B"]  # the newest token of each row
    done_B: Bool[Array, "B"]
    rows: Rows
    out_BG: Int32[Array, "B G"]


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
    seed: int = 0,
) -> Int32[Array, "B G"]:
    """Continue every prompt until one of `stop_ids` or for `max_new_tokens` (G).

    Args:
      tokens_BT, lengths_B, images_BIRRC: as for `cache.prefill`.
      temperature: 0 is greedy; other values, and those of `top_p` and `seed`, share a program.

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
    nucleus = Nucleus(temperature, top_p, seed) if temperature else None
    return program(
        config,
        params,
        tokens_BT,
        lengths_B,
        images_BIRRC,
        nucleus,
        max_new_tokens=max_new_tokens,
        stop_ids=stop_ids,
    )


@functools.partial(jax.jit, static_argnames=("config", "max_new_tokens", "stop_ids"))
def program(
    config: ModelConfig,
    params: Any,
    tokens_BT: Int32[Array, "B T"],
    lengths_B: Int32[Array, "B"],
    images_BIRRC: UInt8[Array, "B I R R C"],
    nucleus: Nucleus | None,
    *,
    max_new_tokens: int,
    stop_ids: tuple[int, ...],
) -> Int32[Array, "B G"]:
    """`generate`, compiled; without a nucleus it is greedy."""
    T = tokens_BT.shape[1]

    def pick(hidden_BD, step):
        logits_BV = qwenvl.logits(config, params, hidden_BD[:, None])[:, 0]
        return best(logits_BV) if nucleus is None else draw(logits_BV, nucleus, step)

    def stops(token_B):
        return jnp.isin(token_B, jnp.array(stop_ids, jnp.int32))

    last_BD, rows = prefill(
        config, params, tokens_BT, lengths_B, images_BIRRC, max_new_tokens=max_new_tokens
    )
    first_B = pick(last_BD, 0)
    out_BG = jnp.zeros((len(tokens_BT), max_new_tokens), jnp.int32).at[:, 0].set(first_B)
    apart = qwenvl.blocks_apart(params)
    start = _Loop(jnp.int32(1), first_B, stops(first_B), rows, out_BG)

    def more(loop: _Loop):
        return (loop.step < max_new_tokens) & ~jnp.all(loop.done_B)

    def advance(loop: _Loop) -> _Loop:
        hidden_BD, rows = grow(config, apart, loop.rows, loop.token_B, T + loop.step - 1)
        token_B = jnp.where(loop.done_B, loop.token_B, pick(hidden_BD, loop.step))
        out_BG = loop.out_BG.at[:, loop.step].set(token_B)
        return _Loop(loop.step + 1, token_B, stops(token_B), rows, out_BG)

    end = jax.lax.while_loop(more, advance, start)
    # Steps that no row needed any more were not run.
    return jnp.where(jnp.arange(max_new_tokens) < end.step, end.out_BG, end.token_B[:, None])
