"""Beam search beside all sequences there are, over a vocabulary of six tokens."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qwenvl_jax.inference.beam import beam_search
from qwenvl_jax.inference.generate import generate
from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.mask import Visibility
from qwenvl_jax.parallel import rules
from qwenvl_jax.parallel.mesh import MeshConfig, make_mesh
from tests.batches import toy_model
from tests.weights import random_weights

TOY = toy_model()
DECODER = dataclasses.replace(TOY.decoder, vocab_size=6, image_pad_id=5, train_length=6)
CONFIG = dataclasses.replace(TOY, decoder=DECODER)
NEW, STOPS = 4, (1, 4)
LENGTHS = np.array([7, 5], np.int32)


def prompts():
    """Two rows, the second without an image; log-n and NTK are at work."""
    rng = np.random.default_rng(3)
    tokens = rng.integers(0, 5, (2, 7)).astype(np.int32)
    tokens[0, 1:5] = 5
    return tokens, rng.integers(0, 256, (2, 1, 16, 16, 3)).astype(np.uint8)


@functools.cache
def weights():
    """Sharper than the usual ones, so that scores differ by more than rounding."""
    return jax.tree.map(lambda x: 2 * x, random_weights(CONFIG))


@functools.cache
def everything() -> tuple[np.ndarray, np.ndarray]:
    """All V^G sequences and their tokens' log-probabilities (2, V^G, G), without a cache."""
    sequences = np.array(list(itertools.product(range(6), repeat=NEW)), np.int32)
    tokens, images = prompts()

    @jax.jit
    def scores(row_MT, images_IRRC, length):
        M, T = row_MT.shape
        x = qwenvl.embed(CONFIG, weights(), row_MT, jnp.repeat(images_IRRC[None], M, axis=0))
        positions = jnp.broadcast_to(jnp.arange(T), (M, T))
        ones = jnp.ones((M, T), jnp.int32)
        alpha, scale = qwenvl.long_context(CONFIG, positions, jnp.full(M, length), "eval")
        see = Visibility(ones, positions, ones, positions)
        hidden, _ = qwenvl.decode(CONFIG, weights(), x, see, alpha_B=alpha, q_scale_BT11=scale)
        logs = jax.nn.log_softmax(qwenvl.logits(CONFIG, weights(), hidden))
        return jnp.take_along_axis(logs[:, :-1], row_MT[:, 1:, None], axis=-1)[..., 0]

    found = []
    for row, length in enumerate(LENGTHS):
        padded = np.zeros((len(sequences), 7 + NEW), np.int32)
        padded[:, :length], padded[:, length : length + NEW] = tokens[row, :length], sequences
        logs = np.asarray(scores(padded, images[row], length))
        found.append(logs[:, length - 1 : length - 1 + NEW])
    return sequences, np.stack(found)


def finished(row: int, penalty: float) -> dict[tuple[int, ...], float]:
    """Every hypothesis, cut after its first stop token, with its score."""
    sequences, logs = everything()
    out = {}
    for tokens, values in zip(sequences.tolist(), logs[row]):
        ends = [i + 1 for i, token in enumerate(tokens) if token in STOPS]
        length = ends[0] if ends else NEW
        out[tuple(tokens[:length])] = float(values[:length].sum()) / length**penalty
    return out


def by_hand(row: int, beams: int, penalty: float) -> tuple[tuple[int, ...], float]:
    """Beam search by sorting lists."""
    scored = finished(row, 0.0)
    sums = {key: scored[key] for key in scored}
    sequences, logs = everything()
    for tokens, values in zip(sequences.tolist(), logs[row]):
        for length in range(1, NEW):
            sums.setdefault(tuple(tokens[:length]), float(values[:length].sum()))
    alive, ended = [()], {}
    for length in range(1, NEW + 1):
        grown = [(*parent, token) for parent in alive for token in range(6)]
        ended |= {h: sums[h] / length**penalty for h in grown if h[-1] in STOPS}
        alive = sorted((h for h in grown if h[-1] not in STOPS), key=sums.get)[::-1][:beams]
    ended |= {h: sums[h] / NEW**penalty for h in alive}
    best = max(ended, key=ended.get)
    return best, ended[best]


def run(beams: int, penalty: float, stop_ids=STOPS):
    tokens, images = prompts()
    out, scores = beam_search(
        CONFIG,
        weights(),
        tokens,
        LENGTHS,
        images,
        max_new_tokens=NEW,
        stop_ids=stop_ids,
        beams=beams,
        length_penalty=penalty,
    )
    return np.asarray(out), np.asarray(scores)


def padded(tokens: tuple[int, ...]) -> list[int]:
    return [*tokens, *[tokens[-1]] * (NEW - len(tokens))]


def test_a_beam_that_holds_everything_finds_the_best_of_all():
    """4^3 living prefixes are all there are; a lost one, or a wrong cache, changes the winner."""
    penalty = 0.0
    out, scores = run(64, penalty)
    for row in range(2):
        every = finished(row, penalty)
        best = max(every, key=every.get)
        assert out[row].tolist() == padded(best)
        assert scores[row] == pytest.approx(every[best], abs=1e-4)


def test_a_narrow_beam_keeps_what_sorting_keeps():
    """Two hypotheses: parents must be followed in outputs and caches alike."""
    penalty = 1.0
    out, scores = run(2, penalty)
    for row in range(2):
        best, score = by_hand(row, 2, penalty)
        assert out[row].tolist() == padded(best)
        assert scores[row] == pytest.approx(score, abs=1e-4)


def test_one_beam_without_an_end_is_greedy():
    tokens, images = prompts()
    want = generate(CONFIG, weights(), tokens, LENGTHS, images, max_new_tokens=NEW, stop_ids=())
    np.testing.assert_array_equal(run(1, 1.0, stop_ids=())[0], want)


def test_eight_devices_find_the_same_hypotheses():
    """Rows, heads and parameters over a mesh: a parent that is followed on another device, or a
    cache that lies elsewhere, changes tokens and scores.
    """
    tokens, images = prompts()
    penalty, beams = 1.0, 3
    want, scores = run(beams, penalty)
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    rows = [np.resize(x, (4, *x.shape[1:])) for x in (tokens, LENGTHS, images)]
    search = functools.partial(
        beam_search, max_new_tokens=NEW, stop_ids=STOPS, beams=beams, length_penalty=penalty
    )
    with jax.set_mesh(mesh):
        placed = jax.device_put(weights(), rules.parameter_shardings(mesh, weights()))
        rows = jax.device_put(rows, rules.batch_sharding(mesh))
        out, found = search(CONFIG, placed, *rows)
        program = beam_search.lower(
            CONFIG, placed, *rows, max_new_tokens=NEW, stop_ids=STOPS, beams=beams
        ).compile()
    np.testing.assert_array_equal(np.asarray(out), np.concatenate([want, want]))
    np.testing.assert_allclose(np.asarray(found), np.tile(scores, 2), atol=1e-5)
    # Inside the loop a device holds the hypotheses of one prompt of four and two of four heads.
    layers, slots = DECODER.layers, 7 + NEW
    held = f"f32[{layers},{beams},2,{slots},{DECODER.head_width}]"
    whole = f"f32[{layers},{4 * beams},4,{slots},{DECODER.head_width}]"
    assert held in program.as_text() and whole not in program.as_text()


@pytest.mark.parametrize(
    ("field", "value"), [("max_new_tokens", 0), ("beams", 0), ("length_penalty", -1.0)]
)
def test_settings_out_of_range_are_named(field, value):
    tokens, images = prompts()
    settings = {"max_new_tokens": 1, "stop_ids": (), "beams": 1, field: value}
    with pytest.raises(ValueError, match=f"{field}={value}"):
        beam_search(CONFIG, {}, tokens, LENGTHS, images, **settings)
