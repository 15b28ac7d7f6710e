"""Beam search in one compiled program.

K hypotheses of each prompt are alive. A step scores all of their K x V continuations; those that
end with a stop token compete for the best finished one, the K best others live on. A hypothesis'
score is the sum of its tokens' log-probabilities over its length to the power `length_penalty`; a
stop token counts.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32, UInt8

from qwenvl_jax.inference.cache import CACHE_AXES, Rows, grow, prefill
from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.model.decoder import Cache
from qwenvl_jax.parallel.shard import constrain
from qwenvl_jax.trees import Array


class _Loop(NamedTuple):
    step: Int32[Array, ""]  # tokens that every living hypothesis has
    rows: Rows  # M = B x K of them, the hypotheses of a prompt side by side
    total_BK: Float[Array, "B K"]  # sums of log-probabilities; -inf where nobody lives yet
    out_BKG: Int32[Array, "B K G"]
    best_B: Float[Array, "B"]  # the finished one's score
    best_BG: Int32[Array, "B G"]


@functools.partial(
    jax.jit, static_argnames=("config", "max_new_tokens", "stop_ids", "beams", "length_penalty")
)
def beam_search(
    config: ModelConfig,
    params: Any,
    tokens_BT: Int32[Array, "B T"],
    lengths_B: Int32[Array, "B"],
    images_BIRRC: UInt8[Array, "B I R R C"],
    *,
    max_new_tokens: int,
    stop_ids: tuple[int, ...],
    beams: int,
    length_penalty: float = 1.0,
) -> tuple[Int32[Array, "B G"], Float[Array, "B"]]:
    """The best continuation of every prompt that was found, and its score.

    Args:
      tokens_BT, lengths_B, images_BIRRC: as for `cache.prefill`.
      beams: K; 1 is greedy decoding.
      length_penalty: at least 0; 0 compares plain sums, 1 means per token.

    Returns:
      The new tokens; after its stop token a row repeats that token. A hypothesis that reached
      `max_new_tokens` (G) without one competes with the finished ones.

    Raises:
      ValueError: `max_new_tokens` or `beams` below 1, `length_penalty` below 0.
    """
    for name, value in (("max_new_tokens", max_new_tokens), ("beams", beams)):
        if value < 1:
            raise ValueError(f"beam_search: {name}={value} must be at least 1")
    if not length_penalty >= 0:
        raise ValueError(f"beam_search: length_penalty={length_penalty} must not be negative")
    (B, T), K, G = tokens_BT.shape, beams, max_new_tokens
    last_BD, rows = prefill(
        config, params, tokens_BT, lengths_B, images_BIRRC, max_new_tokens=max_new_tokens
    )
    apart = qwenvl.blocks_apart(params)

    def extend(hidden_MD, total_BK, out_BKG, best_B, best_BG, step):
        """Every living hypothesis by every token: (parents, what lives on, what is best)."""
        logits_MV = qwenvl.logits(config, params, hidden_MD[:, None])[:, 0]
        log_BKV = jax.nn.log_softmax(logits_MV).reshape(B, K, -1)
        total_BKV = total_BK[..., None] + log_BKV
        V = total_BKV.shape[-1]
        stops_V = jnp.isin(jnp.arange(V), jnp.array(stop_ids, jnp.int32))

        def put(index_BX):
            """Outputs of the hypotheses that the flat (parent, token) indices name."""
            parent_BX, token_BX = index_BX // V, (index_BX % V).astype(jnp.int32)
            out_BXG = jnp.take_along_axis(out_BKG, parent_BX[..., None], axis=1)
            # From here on: a finished hypothesis repeats its stop token.
            return parent_BX, jnp.where(jnp.arange(G) < step, out_BXG, token_BX[..., None])

        ended_BX = jnp.where(stops_V, total_BKV, -jnp.inf).reshape(B, -1)
        living_BX = jnp.where(stops_V, -jnp.inf, total_BKV).reshape(B, -1)
        score_B = ended_BX.max(axis=1) / (step + 1.0) ** length_penalty
        ended_BG = put(ended_BX.argmax(axis=1)[:, None])[1][:, 0]
        best_BG = jnp.where((score_B > best_B)[:, None], ended_BG, best_BG)
        best_B = jnp.maximum(best_B, score_B)
        total_BK, index_BK = jax.lax.top_k(living_BX, K)
        parent_BK, out_BKG = put(index_BK)
        return parent_BK, total_BK, out_BKG, best_B, best_BG

    def more(loop: _Loop):
        # Sums only fall: no living hypothesis can end above its sum over the longest length.
        bound_B = loop.total_BK[:, 0] / float(G) ** length_penalty
        return (loop.step < G) & jnp.any(bound_B > loop.best_B)

    def advance(loop: _Loop) -> _Loop:
        token_M = loop.out_BKG.reshape(B * K, G)[:, loop.step - 1]
        hidden_MD, rows = grow(config, apart, loop.rows, token_M, T + loop.step - 1)
        parent_BK, *rest = extend(
            hidden_MD, loop.total_BK, loop.out_BKG, loop.best_B, loop.best_BG, loop.step
        )
        return _Loop(loop.step + 1, _follow(rows, parent_BK, T), *rest)

    # At first one hypothesis lives, the empty one.
    total_BK = jnp.full((B, K), -jnp.inf).at[:, 0].set(0.0)
    nothing_BKG = jnp.zeros((B, K, G), jnp.int32)
    nobody_B = jnp.full(B, -jnp.inf)
    last_MD, rows = jnp.repeat(last_BD, K, axis=0), _repeat(rows, K)
    _, *rest = extend(last_MD, total_BK, nothing_BKG, nobody_B, nothing_BKG[:, 0], 0)
    end = jax.lax.while_loop(more, advance, _Loop(jnp.int32(1), rows, *rest))
    # Those still alive at the last step end there; an early end left none that could win.
    score_B = jnp.where(end.step == G, end.total_BK[:, 0] / float(G) ** length_penalty, -jnp.inf)
    won_B = score_B > end.best_B
    out_BG = jnp.where(won_B[:, None], end.out_BKG[:, 0], end.best_BG)
    return out_BG, jnp.maximum(score_B, end.best_B)


def _repeat(rows: Rows, times: int) -> Rows:
    """Every row `times` times, side by side."""
    cache = jax.tree.map(lambda x: jnp.repeat(x, times, axis=1), rows.cache)
    cache = Cache(*(constrain(x, *CACHE_AXES) for x in cache))
    others = [jnp.repeat(x, times, axis=0) for x in rows[1:]]
    return Rows(cache, *others)


def _follow(rows: Rows, parent_BK: Int32[Array, "B K"], prompt_slots: int) -> Rows:
    """Each hypothesis takes over what its parent has read; the prompt they share stays.

    A prompt's hypotheses lie on one device, and are taken from each other there.
    """
    B, K = parent_BK.shape

    def follow(x_LMNSH):
        new = x_LMNSH[:, :, :, prompt_slots:]
        new_LBKNGH = new.reshape(len(new), B, K, *new.shape[2:])
        take = jax.vmap(lambda x_LKNGH, k: jnp.take(x_LKNGH, k, axis=1), (1, 0), 1)
        followed = constrain(take(new_LBKNGH, parent_BK).reshape(new.shape), *CACHE_AXES)
        return x_LMNSH.at[:, :, :, prompt_slots:].set(followed)

    return rows._replace(cache=Cache(*(follow(x) for x in rows.cache)))
