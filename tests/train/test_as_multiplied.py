"""What a step makes of its trained parameters once, for all microbatches: nothing else may follow
from it than without.
"""

import jax
import numpy as np
import pytest

from qwenvl_jax import trees
from qwenvl_jax.train import step
from tests.batches import packed_batch, toy_model
from tests.train.test_step import make, optim_config


def test_bfloat16_gradients_are_those_of_the_stored_parameters():
    """Each layer casts its own float32 matrices otherwise: the same loss, bit for bit, and a
    gradient that differs by the roundings of bfloat16 alone. A matrix that is cast where a norm's
    weight stays float32, or a head whose sum over chunks is cut short, would differ by more.
    """
    model = toy_model(dtype="bfloat16")
    state, frozen, _ = make(optim_config(trainable=".*"), model)
    batch = packed_batch(np.random.default_rng(0))

    def loss(params):
        return step.batch_losses(model, params, batch, chunk=16).sum()

    wanted_loss, wanted = jax.jit(jax.value_and_grad(loss))(state.params)
    read = jax.jit(lambda params: step.as_multiplied(model, params, frozen))(state.params)
    got_loss, got = jax.jit(jax.value_and_grad(loss))(read)
    assert got_loss == wanted_loss
    got = trees.flatten(got)
    for path, leaf in trees.flatten(wanted).items():
        here, there = (np.asarray(x, np.float32) for x in (got[path], leaf))
        assert here.shape == there.shape, path
        np.testing.assert_allclose(here, there, atol=2**-7 * np.abs(there).max(), err_msg=path)
    matrix, head = got["vit/blocks/mlp/up/kernel"], got["decoder/head/kernel"]
    assert (matrix.dtype, head.dtype) == ("bfloat16", "float32")
    assert got["vit/blocks/ln_1/scale"].dtype == "float32"


@pytest.mark.parametrize("trainable", [".*", r"vit/blocks/attn/.*|adapter/.*"])
def test_unrolled_layers_train_as_scanned_ones(trainable):
    """Gradients of layers that were taken apart come back in order, each layer's to its own; a
    tower that is frozen in part stays in stacks, beside its frozen rest.
    """
    batch = packed_batch(np.random.default_rng(0))
    ends = []
    for scan in (True, False):
        config = optim_config(trainable=trainable, accumulation=2)
        state, frozen, train = make(config, toy_model(scan_layers=scan))
        state, metrics = train(state, frozen, batch)
        ends.append((trees.flatten(state.opt_state), float(metrics["grad_norm"])))
    (scanned, norm), (unrolled, other) = ends
    assert other == pytest.approx(norm, rel=1e-5)
    largest = max(np.abs(leaf).max() for path, leaf in scanned.items() if "/mu/" in path)
    for path, leaf in scanned.items():
        limit = 1e-6 * largest if "/mu/" in path else 1e-12
        np.testing.assert_allclose(unrolled[path], leaf, rtol=1e-3, atol=limit, err_msg=path)
