"""Batches of one static shape must not be seen in the answers."""

import jax
import numpy as np
import pytest

from qwenvl_jax.inference import prompts
from qwenvl_jax.inference.generate import generate, program
from qwenvl_jax.inference.prompts import Decoding, Prompt, continue_prompts, cut
from qwenvl_jax.parallel import rules
from qwenvl_jax.parallel.mesh import MeshConfig, make_mesh
from tests.batches import PAD_ID, toy_model
from tests.weights import random_weights

CONFIG = toy_model()
DECODING = Decoding(max_new_tokens=4, stop_ids=())


def asked() -> list[Prompt]:
    """Five prompts: lengths 3 to 15, none to three pictures."""
    rng = np.random.default_rng(1)
    out = []
    for pictures in (1, 0, 3, 2, 0):
        parts = [rng.integers(0, 50, int(rng.integers(2, 4)))]
        for _ in range(pictures):
            parts += [[PAD_ID] * 4, rng.integers(0, 50, 1)]
        images = rng.integers(0, 256, (pictures, 16, 16, 3)).astype(np.uint8)
        out.append(Prompt(np.concatenate(parts).astype(np.int32), tuple(images)))
    return out


def alone(params, prompt: Prompt) -> list[int]:
    """One row; that its padding does no harm is `test_generate`'s."""
    tokens, images = np.zeros((1, 20), np.int32), np.zeros((1, 3, 16, 16, 3), np.uint8)
    tokens[0, : len(prompt.tokens)] = prompt.tokens
    for slot, image in enumerate(prompt.images):
        images[0, slot] = image
    lengths = np.array([len(prompt.tokens)], np.int32)
    out = generate(CONFIG, params, tokens, lengths, images, max_new_tokens=4, stop_ids=())
    return np.asarray(out)[0].tolist()


def test_every_prompt_gets_its_own_answer_in_order(monkeypatch):
    """Batches of two, the last one short: a picture in another's slot or a filler row among the
    answers would differ from the prompts asked one by one. One program serves all batches.
    """
    monkeypatch.setattr(prompts, "_LENGTH_STEP", 8)
    params, given = random_weights(CONFIG), asked()
    compiled = program._cache_size()
    got = list(continue_prompts(CONFIG, params, given, DECODING, rows=2))
    assert program._cache_size() == compiled + 1
    assert got == [alone(params, prompt) for prompt in given]
    assert len({tuple(answer) for answer in got}) == 5


def test_a_mesh_gives_the_same_answers():
    """Three rows do not divide over four parts of a batch; fillers must."""
    params, given = random_weights(CONFIG), asked()[:3]
    want = list(continue_prompts(CONFIG, params, given, DECODING, rows=3))
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, rules.parameter_shardings(mesh, params))
        assert list(continue_prompts(CONFIG, placed, given, DECODING, rows=3)) == want


def test_beams_do_not_draw():
    """A temperature that nobody reads would be reported as if it had been used."""
    with pytest.raises(ValueError, match="beams=3.*temperature=0, not 0.5"):
        Decoding(max_new_tokens=4, stop_ids=(), beams=3, temperature=0.5)


def test_what_follows_the_stop_token_is_no_answer():
    tokens = np.array([5, 7, 9, 9, 9], np.int32)
    assert (
        cut(tokens, (9, 3)) == [5, 7] and cut(tokens, (5,)) == [] and cut(tokens, ()) == [*tokens]
    )


def test_a_prompt_that_does_not_fit_its_pictures_is_named():
    """It would be answered from noise, or from a neighbour's picture."""
    good, bad = asked()[0], asked()[3]._replace(images=())
    with pytest.raises(ValueError, match=r"prompt 1 has 8 <imgpad> tokens for 0 pictures"):
        list(continue_prompts(CONFIG, {}, [good, bad], DECODING, rows=2))
    with pytest.raises(ValueError, match="prompt 0 is empty"):
        list(continue_prompts(CONFIG, {}, [Prompt(np.zeros(0, np.int32))], DECODING, rows=1))
