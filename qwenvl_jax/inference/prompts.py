"""Prompts of any length and number of pictures, continued in batches of one static shape.

A program is compiled for a shape, so shapes are few: lengths are rounded up to multiples of 64,
slots for pictures to powers of two, and a short last batch is filled with copies of its first row.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int32, UInt8

from qwenvl_jax.inference.beam import beam_search
from qwenvl_jax.inference.generate import generate
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.parallel import rules
from qwenvl_jax.parallel.shard import gather, spread

_LENGTH_STEP = 64


class Prompt(NamedTuple):
    """Ids with a run of Q `<imgpad>` for every picture, and the pictures in that order."""

    tokens: Int32[np.ndarray, " n"]
    images: Sequence[UInt8[np.ndarray, "R R 3"]] = ()


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How tokens are chosen, and when to end. `temperature` 0 is greedy, or beam search."""

    max_new_tokens: int
    stop_ids: tuple[int, ...]
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    beams: int = 1

    def __post_init__(self):
        if self.beams > 1 and self.temperature > 0:
            raise ValueError(
                f"decoding: beams={self.beams} search for the most probable answer; they go with"
                f" temperature=0, not {self.temperature}"
            )


def continue_prompts(
    config: ModelConfig,
    params: Any,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    *,
    rows: int,
) -> Iterator[list[int]]:
    """New tokens of every prompt in order, up to its stop token (which is left out).

    Under `jax.set_mesh` the rows are split over `data` and `fsdp`; of a job over several processes
    each gives all prompts, and gets all answers.

    Args:
      rows: prompts to a batch; on a mesh rounded up to a multiple of data x fsdp.

    Raises:
      ValueError: a prompt is empty, or its `<imgpad>` do not fit its pictures; says which.
    """
    for index, prompt in enumerate(prompts):
        _check(config, prompt, index)
    mesh = jax.sharding.get_mesh()
    split = 1 if mesh.empty else mesh.shape["data"] * mesh.shape["fsdp"]
    rows = -(-rows // split) * split
    length = max((len(prompt.tokens) for prompt in prompts), default=0)
    length = -(-length // _LENGTH_STEP) * _LENGTH_STEP
    slots = max((len(prompt.images) for prompt in prompts), default=0)
    slots = 2 ** (slots - 1).bit_length() if slots else 0
    for first in range(0, len(prompts), rows):
        chunk = prompts[first : first + rows]
        batch = _batch(config, [*chunk, *[chunk[0]] * (rows - len(chunk))], length, slots)
        if not mesh.empty:
            batch = spread(batch, rules.batch_sharding(mesh))
        tokens = gather(_decode(config, params, batch, decoding, first))
        for row in tokens[: len(chunk)]:
            yield cut(row, decoding.stop_ids)


def _decode(config: ModelConfig, params: Any, batch, decoding: Decoding, first: int) -> jax.Array:
    """New tokens; each batch (by its first prompt) draws from a seed of its own."""
    ends = {"max_new_tokens": decoding.max_new_tokens, "stop_ids": decoding.stop_ids}
    if decoding.beams > 1:
        return beam_search(config, params, *batch, **ends, beams=decoding.beams)[0]
    draw = {"temperature": decoding.temperature, "top_p": decoding.top_p}
    return generate(config, params, *batch, **ends, **draw, seed=decoding.seed + first)


def cut(tokens: Int32[np.ndarray, " n"], stop_ids: Sequence[int]) -> list[int]:
    """What stands before the first stop token."""
    ends = np.flatnonzero(np.isin(tokens, stop_ids))
    return tokens[: ends[0] if len(ends) else len(tokens)].tolist()


def _check(config: ModelConfig, prompt: Prompt, index: int) -> None:
    if not len(prompt.tokens):
        raise ValueError(f"prompt {index} is empty")
    pads = int((prompt.tokens == config.decoder.image_pad_id).sum())
    wanted = len(prompt.images) * config.adapter.num_queries
    if pads != wanted:
        raise ValueError(
            f"prompt {index} has {pads} <imgpad> tokens for {len(prompt.images)} pictures of"
            f" {config.adapter.num_queries} queries"
        )


def _batch(config: ModelConfig, prompts: Sequence[Prompt], length: int, slots: int):
    """(tokens padded with zeros, lengths, images with empty slots at the end)."""
    side = config.vit.image_size
    tokens = np.zeros((len(prompts), length), np.int32)
    images = np.zeros((len(prompts), slots, side, side, 3), np.uint8)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt.tokens)] = prompt.tokens
        for slot, image in enumerate(prompt.images):
            images[row, slot] = image
    lengths = np.array([len(prompt.tokens) for prompt in prompts], np.int32)
    return tokens, lengths, images
