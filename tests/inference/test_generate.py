"""Cached decoding beside a decoder that has no cache."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qwenvl_jax.inference.generate import generate
from qwenvl_jax.inference.sample import choose
from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.mask import Visibility
from qwenvl_jax.parallel import rules
from qwenvl_jax.parallel.mesh import MeshConfig, make_mesh
from tests.batches import PAD_ID, toy_model
from tests.weights import random_weights

CONFIG = toy_model()
LENGTHS = np.array([9, 5, 12], np.int32)
NEW = 6


def prompts():
    """Rows of three lengths; the second has no image."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 50, (3, 12)).astype(np.int32)
    tokens[0, 1:5] = tokens[2, 3:7] = PAD_ID
    images = rng.integers(0, 256, (3, 1, 16, 16, 3)).astype(np.uint8)
    return tokens, images


def without_cache(config, params, tokens_T, length, images_IRRC) -> list[int]:
    """The whole row again for every token; NTK by the prompt's length, log-n by position."""
    tokens = np.zeros(length + NEW, np.int32)
    tokens[:length] = tokens_T[:length]
    T = len(tokens)
    positions = jnp.arange(T)[None]
    ones = jnp.ones((1, T), jnp.int32)  # causality hides what is not yet written

    @jax.jit
    def scores(tokens_BT):
        x_BTD = qwenvl.embed(config, params, tokens_BT, images_IRRC[None])
        alpha_B, scale = qwenvl.long_context(config, positions, jnp.array([length]), "eval")
        hidden, _ = qwenvl.decode(
            config,
            params,
            x_BTD,
            Visibility(ones, positions, ones, positions),
            alpha_B=alpha_B,
            q_scale_BT11=scale,
        )
        return qwenvl.logits(config, params, hidden)[0]

    for i in range(length, T):
        tokens[i] = int(np.argmax(scores(tokens[None])[i - 1]))
    return tokens[length:].tolist()


def check(config):
    params, (tokens, images) = random_weights(CONFIG), prompts()
    out = generate(config, params, tokens, LENGTHS, images, max_new_tokens=NEW, eos_id=-1)
    for row in range(3):
        want = without_cache(config, params, tokens[row], LENGTHS[row], images[row])
        assert out[row].tolist() == want
    return out


def test_rows_of_different_lengths_continue_as_if_alone():
    """A wrong slot, position or mask of the padding changes a token of the shorter rows."""
    out = check(CONFIG)
    assert len({tuple(row) for row in out.tolist()}) == 3


def test_beyond_the_training_length():
    """Each row has its own NTK base, set by its prompt, and log-n at every new position."""
    decoder = dataclasses.replace(CONFIG.decoder, train_length=7)
    check(dataclasses.replace(CONFIG, decoder=decoder))


def test_after_the_end_comes_only_the_end():
    """A row that is done must not go on while others do."""
    params, (tokens, images) = random_weights(CONFIG), prompts()
    free = np.asarray(
        generate(CONFIG, params, tokens, LENGTHS, images, max_new_tokens=NEW, eos_id=-1)
    )
    eos = int(free[0, 2])
    out = np.asarray(
        generate(CONFIG, params, tokens, LENGTHS, images, max_new_tokens=NEW, eos_id=eos)
    )
    for row in range(3):
        stop = free[row].tolist().index(eos) if eos in free[row] else NEW
        assert out[row].tolist() == free[row, :stop].tolist() + [eos] * (NEW - stop)


@pytest.mark.parametrize(
    ("field", "value"), [("max_new_tokens", 0), ("temperature", -1.0), ("top_p", 0.0)]
)
def test_settings_out_of_range_are_named(field, value):
    """An empty nucleus or a negative temperature would draw tokens all the same."""
    tokens, images = prompts()
    settings = {"max_new_tokens": NEW, "eos_id": -1, field: value}
    with pytest.raises(ValueError, match=f"{field}={value}"):
        generate(CONFIG, {}, tokens, LENGTHS, images, **settings)


def test_a_draw_stays_in_the_nucleus_and_follows_its_probabilities():
    """Keeping one token too few or too many, or forgetting the temperature, shifts the shares."""
    probabilities = np.array([0.1, 0.5, 0.05, 0.35])
    logits = jnp.asarray(np.log(probabilities) * 2, jnp.float32)  # undone by temperature 2
    rows = jnp.tile(logits, (4000, 1))
    drawn = np.asarray(choose(rows, jax.random.key(0), temperature=2.0, top_p=0.8))
    shares = np.bincount(drawn, minlength=4) / 4000
    np.testing.assert_allclose(shares, [0, 0.5 / 0.85, 0, 0.35 / 0.85], atol=0.03)
    assert choose(rows[:1], jax.random.key(0), temperature=0.0, top_p=1.0).tolist() == [1]


def test_eight_devices_write_the_same_tokens():
    """Rows, heads and parameters over a mesh: a cache in the wrong shards would change tokens."""
    params, (tokens, images) = random_weights(CONFIG), prompts()
    settings = {"max_new_tokens": NEW, "eos_id": -1}
    want = np.asarray(generate(CONFIG, params, tokens, LENGTHS, images, **settings))
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    rows = [np.resize(x, (4, *x.shape[1:])) for x in (tokens, LENGTHS, images)]
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, rules.parameter_shardings(mesh, params))
        rows = jax.device_put(rows, rules.batch_sharding(mesh))
        out = generate(CONFIG, placed, *rows, **settings)
    assert len(placed["decoder"]["embedding"].sharding.device_set) == 8
    np.testing.assert_array_equal(np.asarray(out)[:3], want)
