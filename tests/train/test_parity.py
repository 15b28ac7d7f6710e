"""The recorded numbers of the released implementation, in every way the model can be run."""

import dataclasses
import importlib.util
import pathlib
import shutil

import jax
import numpy as np
import pytest

from qwenvl_jax.inference.generate import generate
from qwenvl_jax.parallel import rules
from qwenvl_jax.parallel.mesh import MeshConfig, make_mesh
from qwenvl_jax.train import parity

REFERENCE = pathlib.Path(__file__).parents[1] / "reference"


@pytest.fixture(scope="module")
def reference():
    return parity.load(REFERENCE)


@pytest.fixture(autouse=True)
def full_precision():
    """As the command computes; and what one test compiled, the next need not."""
    with jax.default_matmul_precision("highest"):
        yield


def check(errors) -> list[str]:
    """Fails with every case above its limit; returns the cases."""
    errors = list(errors)
    assert not [error for error in errors if not error.ok]
    return [error.case for error in errors]


def test_features_hidden_states_and_logits(reference):
    """Any slip in positions, norms, masks, layouts or the rules for long prompts: 1e-5 of each."""
    assert check(parity.forward_errors(*reference)) == [
        "short.image_features",
        "short.hidden_0",
        "short.hidden_1",
        "short.hidden_2",
        "short.logits",
        "long.logits",
        "text.logits",
        "res.image_features",
    ]


@pytest.mark.parametrize(
    ("remat", "scan"), [("none", True), ("dots", True), ("full", True), ("full", False)]
)
def test_loss_and_every_gradient(reference, remat, scan):
    """A remat policy or an unrolled loop that computes something else shows in some gradient."""
    config, params, cases = reference
    config = dataclasses.replace(config, remat=remat, scan_layers=scan)
    found = check(parity.train_errors(config, params, cases))
    assert len(found) == 1 + sum(name.startswith("grad_") for name in cases)


def test_unrolled_logits(reference):
    """Layers taken in another order than the scan's."""
    config, params, cases = reference
    check(parity.forward_errors(dataclasses.replace(config, scan_layers=False), params, cases))


def test_eight_devices(reference):
    """Sharded parameters and rows must not change a number: logits, loss and gradients."""
    config, params, cases = reference
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    batch = parity.one_sample_rows(
        config, cases["short.tokens"], cases["short.images"], cases["train.labels"]
    )
    # Four copies of both rows: the mean over labelled tokens stays what it was.
    batch = jax.tree.map(lambda x: np.concatenate([x] * 4), batch)
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, rules.parameter_shardings(mesh, params))
        batch = jax.device_put(batch, rules.batch_sharding(mesh))
        logits, states = parity.forward(config, placed, batch, keep=True)
        loss, gradients = parity.loss_and_gradients(config, placed, batch)
    assert len(gradients["decoder"]["embedding"].sharding.device_set) == 8
    assert parity.relative_error(logits[-2:], cases["short.logits"]) <= parity.LIMIT
    for i, state in enumerate(np.asarray(states)):
        assert parity.relative_error(state[:2], cases[f"short.hidden_{i}"]) <= parity.LIMIT
    assert parity.relative_error(loss, cases["train.loss"]) <= parity.LIMIT
    for name, gradient in parity.names.export(jax.device_get(gradients)):
        if f"grad_norm/{name}" in cases:
            norm = np.linalg.norm(np.asarray(gradient, np.float64))
            error = parity.relative_error(norm, cases[f"grad_norm/{name}"])
            assert error <= parity.GRADIENT_LIMIT, name


def test_greedy_continuation(reference):
    """The record's twelve tokens, each by a prompt pass of its own as it was made."""
    assert check(parity.greedy_errors(*reference)) == ["greedy.output"]


def test_greedy_continuation_with_a_cache(reference):
    """With a cache the NTK base stays the prompt's, so the record holds up to the training length:
    9 tokens, the last of them scored at position 63 of 64.
    """
    config, params, cases = reference
    prompt, want = cases["greedy.prompt"].astype(np.int32), cases["greedy.output"]
    kept = config.decoder.train_length - prompt.shape[1] + 1
    images = cases["short.images"][None, 2:3]
    lengths = np.full(1, prompt.shape[1], np.int32)
    out = generate(config, params, prompt, lengths, images, max_new_tokens=kept, stop_ids=())
    np.testing.assert_array_equal(out, want[:, :kept])


def test_the_command_fails_on_a_wrong_number(tmp_path, capsys):
    """A comparison that cannot fail proves nothing: one logit moved by 1e-4 of the largest."""
    for name in ("config.json", "model.safetensors"):
        shutil.copy(REFERENCE / name, tmp_path)
    cases = dict(np.load(REFERENCE / "cases.npz"))
    cases["text.logits"][0, 5, 7] += 1e-4 * np.abs(cases["text.logits"]).max()
    np.savez(tmp_path / "cases.npz", **cases)
    script = pathlib.Path(__file__).parents[2] / "launch" / "convert.py"
    spec = importlib.util.spec_from_file_location("convert", script)
    convert = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(convert)
    assert convert.main(["parity", str(tmp_path)]) == 1
    bad = [line for line in capsys.readouterr().out.splitlines() if "ABOVE" in line]
    assert len(bad) == 1 and bad[0].endswith("text.logits")
    (tmp_path / "cases.npz").unlink()
    assert convert.main(["parity", str(tmp_path)]) == 2
    assert "cases.npz" in capsys.readouterr().err
