"""Cached decoding beside a decoder that has no cache."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qwenvl_jax.inference.generate import generate, program
from qwenvl_jax.inference.sample import Nucleus, best, draw
from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.mask import Visibility
from qwenvl_jax.parallel import rules
from qwenvl_jax.parallel.mesh import MeshConfig, make_mesh
from qwenvl_jax.train import parity
from tests.batches import PAD_ID, toy_model
from tests.weights import random_weights

CONFIG = toy_model()
LENGTHS = np.array([9, 5, 12], np.int32)
NEW = 6


def prompts():
    """Rows of three lengths with one image, none and two."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 50, (3, 12)).astype(np.int32)
    tokens[0, 1:5] = tokens[2, 1:5] = tokens[2, 7:11] = PAD_ID
    images = rng.integers(0, 256, (3, 2, 16, 16, 3)).astype(np.uint8)
    images[0, 1] = images[1] = 0  # empty slots
    return tokens, images


def without_cache(config, params, tokens_BT, images) -> np.ndarray:
    """Whole rows again for every token; NTK by the prompt's length, log-n by position."""
    tokens = np.zeros((3, tokens_BT.shape[1] + NEW), np.int32)
    tokens[:, : tokens_BT.shape[1]] = tokens_BT
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    ones = jnp.ones_like(positions)  # causality hides what is not yet written

    @jax.jit
    def scores(tokens_BT):
        x_BTD = qwenvl.embed(config, params, tokens_BT, images)
        alpha_B, scale = qwenvl.long_context(config, positions, jnp.asarray(LENGTHS), "eval")
        hidden, _ = qwenvl.decode(
            config,
            params,
            x_BTD,
            Visibility(ones, positions, ones, positions),
            alpha_B=alpha_B,
            q_scale_BT11=scale,
        )
        return qwenvl.logits(config, params, hidden)

    rows, out = np.arange(3), np.zeros((3, NEW), np.int32)
    for i in range(NEW):
        out[:, i] = np.argmax(scores(tokens)[rows, LENGTHS + i - 1], axis=-1)
        tokens[rows, LENGTHS + i] = out[:, i]
    return out


def check(config):
    params, (tokens, images) = random_weights(CONFIG), prompts()
    out = generate(config, params, tokens, LENGTHS, images, max_new_tokens=NEW, stop_ids=())
    np.testing.assert_array_equal(out, without_cache(config, params, tokens, images))
    return out


def test_rows_of_different_lengths_continue_as_if_alone():
    """A wrong slot, position or mask of the padding changes a token of the shorter rows."""
    out = check(CONFIG)
    assert len({tuple(row) for row in out.tolist()}) == 3


def test_beyond_the_training_length():
    """Each row has its own NTK base, set by its prompt, and log-n at every new position."""
    decoder = dataclasses.replace(CONFIG.decoder, train_length=7)
    check(dataclasses.replace(CONFIG, decoder=decoder))


def test_several_stop_tokens():
    """A row must end at the first of them, not at one of the list only, and stay there while the
    other rows go on.
    """
    params, (tokens, images) = random_weights(CONFIG), prompts()

    def run(stop_ids):
        settings = {"max_new_tokens": NEW, "stop_ids": stop_ids}
        return np.asarray(generate(CONFIG, params, tokens, LENGTHS, images, **settings))

    free = run(())
    stop_ids = (int(free[0, 2]), int(free[1, 1]))
    out = run(stop_ids)
    for row in range(3):
        ends = [i for i, token in enumerate(free[row].tolist()) if token in stop_ids]
        stop = ends[0] if ends else NEW
        want = free[row, :stop].tolist() + [int(free[row, min(stop, NEW - 1)])] * (NEW - stop)
        assert out[row].tolist() == want
    assert out[0, -1] == stop_ids[0] and out[1, -1] == stop_ids[1]


def test_steps_that_no_row_needs_repeat_the_stop_token():
    """When all rows are done the loop ends early; what it leaves must not be read as text."""
    params, (tokens, images) = random_weights(CONFIG), prompts()
    every = tuple(range(CONFIG.decoder.vocab_size))
    settings = {"max_new_tokens": NEW, "stop_ids": every}
    out = np.asarray(generate(CONFIG, params, tokens, LENGTHS, images, **settings))
    assert (out == out[:, :1]).all() and len(set(out[:, 0].tolist())) > 1


def test_prompts_around_the_training_length_as_recorded():
    """The released implementation's own numbers for rows of 60 (two images, one) and of 100 tokens
    (training length 64), here in one padded batch: each row keeps its own NTK base.
    """
    config, params, cases = parity.load(Path(__file__).parents[1] / "reference")
    rows, length = parity.one_sample_rows(config, cases["short.tokens"], cases["short.images"]), 60
    long = parity.one_sample_rows(config, cases["long.tokens"], cases["long.images"])
    tokens = np.zeros((3, 100), np.int32)
    tokens[:2, :length], tokens[2] = rows.tokens, long.tokens[0]
    images = np.zeros((3, *rows.images.shape[1:]), np.uint8)
    images[:2], images[2, : long.images.shape[1]] = rows.images, long.images[0]
    lengths = np.array([length, length, 100], np.int32)
    with jax.default_matmul_precision("highest"):
        out = generate(config, params, tokens, lengths, images, max_new_tokens=1, stop_ids=())
    last = np.concatenate([cases["short.logits"][:, -1], cases["long.logits"][:, -1]])
    assert out[:, 0].tolist() == last.argmax(-1).tolist()


@pytest.mark.parametrize(
    ("field", "value"), [("max_new_tokens", 0), ("temperature", -1.0), ("top_p", 0.0)]
)
def test_settings_out_of_range_are_named(field, value):
    """An empty nucleus or a negative temperature would draw tokens all the same."""
    tokens, images = prompts()
    settings = {"max_new_tokens": NEW, "stop_ids": (), field: value}
    with pytest.raises(ValueError, match=f"{field}={value}"):
        generate(CONFIG, {}, tokens, LENGTHS, images, **settings)


def test_a_draw_stays_in_the_nucleus_and_follows_its_probabilities():
    """Keeping one token too few or too many, or forgetting the temperature, shifts the shares."""
    probabilities = np.array([0.1, 0.5, 0.05, 0.35])
    logits = jnp.asarray(np.log(probabilities) * 2, jnp.float32)  # undone by temperature 2
    rows = jnp.tile(logits, (4000, 1))
    drawn = np.asarray(draw(rows, Nucleus(2.0, 0.8, 0), 0))
    shares = np.bincount(drawn, minlength=4) / 4000
    np.testing.assert_allclose(shares, [0, 0.5 / 0.85, 0, 0.35 / 0.85], atol=0.03)
    assert best(rows[:1]).tolist() == [1]
    other = np.asarray(draw(rows, Nucleus(2.0, 0.8, 0), 1))
    assert 0.3 < np.mean(drawn == other) < 0.7  # 0.52 for independent draws


def test_eight_devices_write_the_same_tokens():
    """Rows, heads and parameters over a mesh, greedy and drawn: a cache in the wrong shards, or
    draws that differ by device, would change tokens.
    """
    params, (tokens, images) = random_weights(CONFIG), prompts()
    settings = {"max_new_tokens": NEW, "stop_ids": ()}
    want = np.asarray(generate(CONFIG, params, tokens, LENGTHS, images, **settings))
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    rows = [np.resize(x, (4, *x.shape[1:])) for x in (tokens, LENGTHS, images)]
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, rules.parameter_shardings(mesh, params))
        rows = jax.device_put(rows, rules.batch_sharding(mesh))
        out = generate(CONFIG, placed, *rows, **settings)
        drawn = generate(CONFIG, placed, *rows, **settings, temperature=0.7, top_p=0.8, seed=3)
        text = program.lower(CONFIG, placed, *rows, None, **settings).compile().as_text()
    assert len(placed["decoder"]["embedding"].sharding.device_set) == 8
    np.testing.assert_array_equal(np.asarray(out)[:3], want)
    alone = jax.device_get(rows)
    same = generate(CONFIG, params, *alone, **settings, temperature=0.7, top_p=0.8, seed=3)
    np.testing.assert_array_equal(np.asarray(drawn), same)
    # Inside the loop a device holds one row of four and two heads of four.
    decoder, slots = CONFIG.decoder, tokens.shape[1] + NEW
    assert f"f32[{decoder.layers},1,2,{slots},{decoder.head_width}]" in text
    assert f"f32[{decoder.layers},4,4,{slots},{decoder.head_width}]" not in text
