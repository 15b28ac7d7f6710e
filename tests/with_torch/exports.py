"""Work directories of models of every kind, exported with their PyTorch code, and both loaded."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from configs import stage1
from launch import weights
from qwenvl_jax import trees
from qwenvl_jax.checkpoint.manager import Checkpoints
from qwenvl_jax.checkpoint.policy import CheckpointConfig
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.text.sentence_piece import train_sentencepiece
from qwenvl_jax.text.tokenizer import Tokenizer, load_tokenizer
from qwenvl_jax.train import parity
from tests.batches import toy_model
from tests.weights import random_weights

REFERENCE = Path(__file__).parents[1] / "reference"
TEXTS = ["user assistant system Picture a dog and a cat <(1,2)> Answer: 狗 猫"] * 9
TOWERS = ("vit", "adapter", "decoder")


class Export(NamedTuple):
    """One model twice: in JAX, and as transformers loads it."""

    config: ModelConfig
    params: trees.Tree
    tokenizer: Tokenizer
    folder: Path
    model: Any
    processor: Any


def write_workdir(folder: Path, config: ModelConfig, params: trees.Tree, tokenizer: Path) -> None:
    """A work directory at step 3, as training leaves it."""
    folder.mkdir(parents=True)
    page = stage1.get_config()
    page.data.tokenizer = str(tokenizer)
    plain = json.loads(page.to_json())
    plain["model"] = dataclasses.asdict(config)
    (folder / "config.json").write_text(json.dumps(plain))
    checkpoints = Checkpoints(folder, CheckpointConfig(), plain)
    moments, data = {"steps": np.zeros((), np.int32)}, np.zeros((0, 0), np.int64)
    checkpoints.save(3, params=params, opt_state=moments, frozen={}, data=data)
    checkpoints.close()


def export(folder: Path, config: ModelConfig, params: trees.Tree, tokenizer: Path) -> Export:
    """An export with its code, and what transformers makes of the directory."""
    from transformers import AutoModelForCausalLM, AutoProcessor

    write_workdir(folder / "work", config, params, tokenizer)
    out = folder / "export"
    weights.export_weights(folder / "work", out, layout="own", dtype="float32", shard_bytes=10**6)
    model = AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True).eval()
    processor = AutoProcessor.from_pretrained(out, trust_remote_code=True)
    return Export(config, params, load_tokenizer(tokenizer), out, model, processor)


def small_vocabulary(folder: Path) -> Path:
    path = folder / "small.model"
    train_sentencepiece(TEXTS, path, 320)
    return path


def configs(tokenizer: Tokenizer) -> dict[str, ModelConfig]:
    """Small models of every kind, for one vocabulary."""
    base = toy_model()
    decoder = dataclasses.replace(
        base.decoder,
        vocab_size=tokenizer.padded_vocab_size,
        image_pad_id=tokenizer.specials.imgpad,
        train_length=18,
        eps=1e-5,
        rope_base=3e4,
    )
    vit = dataclasses.replace(base.vit, image_size=64, position_grid=4, layers=4)
    base = dataclasses.replace(base, vit=vit, decoder=decoder)

    def changed(vit: dict | None = None, **adapter) -> ModelConfig:
        return dataclasses.replace(
            base,
            vit=dataclasses.replace(base.vit, **(vit or {})),
            adapter=dataclasses.replace(base.adapter, **adapter),
        )

    return {
        "demo": base,
        "64 queries": changed(num_queries=64, heads=2),
        "mlp": changed(kind="mlp"),
        "pooling": changed(kind="pooling"),
        "windows": changed(dict(window=16, sincos_positions=True), positions=False),
    }


def model(kind: str, vocabulary: Path) -> tuple[ModelConfig, trees.Tree]:
    """One of `configs` with random weights; `reference`: the released numbers' weights, with the
    vocabulary's id of `<imgpad>` in place of its own.
    """
    tokenizer = load_tokenizer(vocabulary)
    if kind == "reference":
        config, params, _ = parity.load(REFERENCE)
        decoder = dataclasses.replace(config.decoder, image_pad_id=tokenizer.specials.imgpad)
        assert tokenizer.vocab_size <= decoder.vocab_size
        return dataclasses.replace(config, decoder=decoder), jax.tree.map(np.asarray, params)
    config = configs(tokenizer)[kind]
    return config, random_weights(config)


def make(folder: Path, kind: str) -> Export:
    """An export of a model of `configs`, or of `reference` with its own id of `<imgpad>`."""
    vocabulary = small_vocabulary(folder)
    if kind != "reference":
        return export(folder, *model(kind, vocabulary), vocabulary)
    config, params, _ = parity.load(REFERENCE)
    return export(folder, config, jax.tree.map(np.asarray, params), vocabulary)
