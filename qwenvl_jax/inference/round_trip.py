"""An exported directory beside the checkpoint it came from: tensors, logits and greedy tokens."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qwenvl_jax.batch import Batch
from qwenvl_jax.checkpoint import exported, manifest
from qwenvl_jax.checkpoint.exported import Check
from qwenvl_jax.checkpoint.stored import Stored
from qwenvl_jax.checkpoint.weights import open_weights
from qwenvl_jax.inference.generate import generate
from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.config import ModelConfig

_WORDS, _NEW = 12, 8  # text positions beside the picture, tokens to continue with


def verify(stored: Stored, folder: str | Path) -> Iterator[Check]:
    """Compare on the spot, line by line: files, tensors both ways, the model.

    The checkpoint's own files were compared with their manifest when `stored` was opened.

    Raises:
      ValueError: a file of the export is damaged.
    """
    folder = Path(folder)
    manifest.verify(folder)
    yield Check("sha256 of files", "all as in MANIFEST.json", True)
    same = True
    for check in exported.compare_tensors(stored, folder):
        same = same and check.ok
        yield check
    if same:
        yield from _compare_model(stored, folder)


def _compare_model(stored: Stored, folder: Path) -> Iterator[Check]:
    """Logits and greedy tokens of both; one model in memory at a time."""
    config = exported.exported_config(stored, folder)
    weights = open_weights(folder)
    dtype = weights.dtype("lm_head.weight")
    before = _behaviour(stored.config, exported.stored_parameters(stored, dtype))
    after = _behaviour(config, exported.exported_parameters(config, folder))
    error = np.max(np.abs(before[0] - after[0])) / np.max(np.abs(before[0]))
    finite = bool(np.isfinite(before[0]).all())
    yield Check("logits, largest relative difference", f"{error:.1e}", bool(finite and error == 0))
    equal = np.array_equal(before[1], after[1])
    yield Check("greedy tokens", " ".join(map(str, after[1].ravel())), equal)


def _behaviour(config: ModelConfig, params: Any) -> tuple[np.ndarray, np.ndarray]:
    """(logits of one picture with words around it, greedy continuation)."""
    rng = np.random.default_rng(0)
    queries, side = config.adapter.num_queries, config.vit.image_size
    pad = config.decoder.image_pad_id
    words = rng.integers(0, pad - 2, _WORDS)
    tokens = np.concatenate([[pad - 2], [pad] * queries, [pad - 1], words])[None].astype(np.int32)
    images = rng.integers(0, 256, (1, 1, side, side, 3), dtype=np.uint8)
    logits = np.asarray(_logits(config, params, tokens, images), np.float32)
    lengths = np.full(1, tokens.shape[1], np.int32)
    new = generate(
        config,
        params,
        tokens,
        lengths,
        images,
        max_new_tokens=_NEW,
        stop_ids=(),
    )
    return logits, np.asarray(new)


@functools.partial(jax.jit, static_argnames="config")
def _logits(config: ModelConfig, params: Any, tokens_BT: Any, images_BIRRC: Any) -> jax.Array:
    ones_BT = jnp.ones_like(tokens_BT)
    positions_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
    slots_BI = jnp.ones(images_BIRRC.shape[:2], bool)
    batch = Batch(tokens_BT, tokens_BT, ones_BT, positions_BT, 0 * ones_BT, images_BIRRC, slots_BI)
    hidden_BTD, _ = qwenvl.hidden_states(config, params, batch, mode="eval", keep=False)
    return qwenvl.logits(config, params, hidden_BTD)
