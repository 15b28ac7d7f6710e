"""What a block keeps for its way back, and what it does again."""

import re

import jax
import numpy as np

from qwenvl_jax.model import qwenvl
from qwenvl_jax.train import step
from tests.batches import packed_batch, toy_model


def work(remat: str) -> dict[str, int]:
    """How often the gradient's program, layers scanned, has each kind of work."""
    model, batch = toy_model(remat=remat), packed_batch(np.random.default_rng(0))
    shapes = jax.eval_shape(lambda key: qwenvl.init(model, key), jax.random.key(0))

    def loss(params):
        return step.batch_losses(model, params, batch, chunk=16).sum()

    text = str(jax.make_jaxpr(jax.grad(loss))(shapes))
    kinds = {"turned": "concatenate", "cut up": "slice", "multiplied": "dot_general"}
    return {name: len(re.findall(rf"= {op}\[", text)) for name, op in kinds.items()}


def test_dots_repeats_no_product_no_rotation_and_no_cut():
    """The policy keeps queries, keys and values as attention takes them, which needs no more memory
    than the product that they are cut from: kept instead, a decoder layer's way back rotated and
    cut once more. Of products only the scores of dense attention are made anew, in either tower.
    """
    none, dots, full = map(work, ("none", "dots", "full"))
    assert (dots["turned"], dots["cut up"]) == (none["turned"], none["cut up"])
    assert dots["multiplied"] == none["multiplied"] + 2
    assert all(full[kind] > dots[kind] for kind in full)
