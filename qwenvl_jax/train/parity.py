"""Our numbers beside recorded ones of the released implementation, case by case.

A directory holds `config.json`, `model.safetensors` (released names) and `cases.npz`, as
tests/reference does. An error is the largest difference over the recorded array's largest entry.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qwenvl_jax import trees
from qwenvl_jax.batch import IGNORE, Batch
from qwenvl_jax.checkpoint import convert, names
from qwenvl_jax.checkpoint.json_file import read_object
from qwenvl_jax.checkpoint.released_config import model_config
from qwenvl_jax.checkpoint.weights import open_weights
from qwenvl_jax.inference.generate import generate
from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.train.step import batch_losses

LIMIT = 1e-5
GRADIENT_LIMIT = 1e-3

Cases = Mapping[str, np.ndarray]


class Error(NamedTuple):
    case: str
    value: float
    limit: float

    @property
    def ok(self) -> bool:
        return self.value <= self.limit  # False for NaN


def load(directory: str | pathlib.Path) -> tuple[ModelConfig, trees.Tree, dict[str, np.ndarray]]:
    """(float32 config, parameters, recorded arrays) of a directory.

    Raises:
      ValueError: a file is missing, or a tensor does not fit; names it.
    """
    directory = pathlib.Path(directory)
    for name in ("config.json", "model.safetensors", "cases.npz"):
        if not (directory / name).is_file():
            raise ValueError(f"parity: {directory / name} is missing")
    values = read_object(directory / "config.json")
    config = model_config(values, dtype="float32", remat="none")
    shapes = names.parameter_shapes(config)
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params = convert.load(
        config,
        open_weights(directory / "model.safetensors"),
        shardings=jax.tree.map(lambda _: here, shapes),
        dtype=np.float32,
    )
    return config, params, dict(np.load(directory / "cases.npz"))


def relative_error(got: Any, want: Any) -> float:
    """Largest difference over the largest entry of `want`; infinite where shapes differ."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        return float("inf")
    return float(np.max(np.abs(got - want)) / max(np.max(np.abs(want)), 1e-30))


features = jax.jit(qwenvl.image_features, static_argnums=0)


def one_sample_rows(config: ModelConfig, tokens, images=None, labels=None) -> Batch:
    """Every row one sample; images (M, R, R, 3) go to the rows whose `<imgpad>` runs ask for them.

    Args:
      labels: aligned with tokens; shifted here, so that `targets` hold the next token.
    """
    tokens = np.asarray(tokens, np.int32)
    B, T = tokens.shape
    side = config.vit.image_size
    images = np.zeros((0, side, side, 3), np.uint8) if images is None else images
    pads = (tokens == config.decoder.image_pad_id).sum(1)
    counts = pads // config.adapter.num_queries
    assert counts.sum() == len(images), (counts, len(images))
    slots = np.arange(counts.max(initial=0))[None] < counts[:, None]
    filled = np.zeros((*slots.shape, *images.shape[1:]), np.uint8)
    filled[slots] = images
    targets = np.full((B, T), IGNORE, np.int32)
    if labels is not None:
        targets[:, :-1] = np.asarray(labels)[:, 1:]
    positions = np.broadcast_to(np.arange(T, dtype=np.int32), (B, T))
    ones = np.ones((B, T), np.int32)
    return Batch(tokens, targets, ones, positions, np.zeros((B, T), np.int32), filled, slots)


@functools.partial(jax.jit, static_argnames=("config", "keep"))
def forward(config: ModelConfig, params, batch: Batch, *, keep: bool):
    """(logits, hidden before every block and after the last norm or None), evaluation rules."""
    last, entries = qwenvl.hidden_states(config, params, batch, mode="eval", keep=keep)
    states = jnp.concatenate([entries, last[None]]) if keep else None
    return qwenvl.logits(config, params, last), states


@functools.partial(jax.jit, static_argnames="config")
def loss_and_gradients(config: ModelConfig, params, batch: Batch):
    """Mean loss over labelled positions and its gradient, training rules."""

    def loss(params):
        losses_BT = batch_losses(config, params, batch, chunk=batch.tokens.shape[1])
        return jnp.sum(losses_BT) / jnp.sum(batch.targets != IGNORE)

    return jax.value_and_grad(loss)(params)


def forward_errors(config: ModelConfig, params, cases: Cases) -> Iterator[Error]:
    """Image features, hidden states and logits."""
    for case in ("short", "long", "text", "res"):
        images = cases.get(f"{case}.images")
        if f"{case}.image_features" in cases:
            got = features(config, params, images)
            error = relative_error(got, cases[f"{case}.image_features"])
            yield Error(f"{case}.image_features", error, LIMIT)
        if f"{case}.tokens" not in cases:
            continue
        batch = one_sample_rows(config, cases[f"{case}.tokens"], images)
        keep = f"{case}.hidden_0" in cases
        logits, states = forward(config, params, batch, keep=keep)
        for i in range(len(states) if keep else 0):
            name = f"{case}.hidden_{i}"
            yield Error(name, relative_error(states[i], cases[name]), LIMIT)
        yield Error(f"{case}.logits", relative_error(logits, cases[f"{case}.logits"]), LIMIT)


def train_errors(config: ModelConfig, params, cases: Cases) -> Iterator[Error]:
    """The loss, and for every trained tensor its gradient's norm and first entries."""
    batch = one_sample_rows(
        config, cases["short.tokens"], cases["short.images"], cases["train.labels"]
    )
    loss, gradients = loss_and_gradients(config, params, batch)
    yield Error("train.loss", relative_error(loss, cases["train.loss"]), LIMIT)
    released = dict(names.export(jax.device_get(gradients)))  # NumPy: nothing to compile
    for name in released:
        if f"grad_norm/{name}" not in cases:
            continue
        gradient = np.asarray(released[name], np.float64)
        norm = np.linalg.norm(gradient)
        error = relative_error(norm, cases[f"grad_norm/{name}"])
        yield Error(f"grad_norm/{name}", error, GRADIENT_LIMIT)
        want = cases[f"grad_head/{name}"]
        error = relative_error(gradient.ravel()[: want.size], want)
        yield Error(f"grad_head/{name}", error, GRADIENT_LIMIT)


def greedy_errors(config: ModelConfig, params, cases: Cases) -> Iterator[Error]:
    """Greedy tokens as the share that differs.

    The record was made without a cache, every token by a prompt pass of its own, whose length sets
    the NTK base; so is it here. One width for all passes: one compilation.
    """
    prompt, want = cases["greedy.prompt"], cases["greedy.output"]
    images = one_sample_rows(config, prompt, cases["short.images"][2:3]).images
    B, length = prompt.shape
    tokens = np.zeros((B, length + want.shape[1]), np.int32)
    tokens[:, :length] = prompt
    for i in range(length, tokens.shape[1]):
        lengths = np.full(B, i, np.int32)
        new = generate(config, params, tokens, lengths, images, max_new_tokens=1, stop_ids=())
        tokens[:, i] = np.asarray(new)[:, 0]
    yield Error("greedy.output", float(np.mean(tokens[:, length:] != want)), LIMIT)


def errors(directory: str | pathlib.Path, **changes: Any) -> Iterator[Error]:
    """Every case of a directory; `changes` are fields of ModelConfig (remat, scan_layers)."""
    config, params, cases = load(directory)
    config = dataclasses.replace(config, **changes)
    with jax.default_matmul_precision("highest"):
        yield from forward_errors(config, params, cases)
        yield from train_errors(config, params, cases)
        yield from greedy_errors(config, params, cases)
