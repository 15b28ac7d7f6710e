"""A work directory as training leaves it, without training."""

import json
from pathlib import Path

import numpy as np

from configs import stage1
from qwenvl_jax import settings
from qwenvl_jax.checkpoint.manager import Checkpoints
from qwenvl_jax.checkpoint.policy import CheckpointConfig
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.text.sentence_piece import train_sentencepiece
from qwenvl_jax.text.tokenizer import load_tokenizer
from tests.weights import random_weights

TEXTS = ["user assistant system a dog and a cat <(1,2)> 狗 猫"] * 9


def write_workdir(folder: Path, *, step: int = 3) -> Path:
    """The demo's stage 1 with a narrow random model and a vocabulary of its own."""
    path = folder / "tokenizer.model"
    train_sentencepiece(TEXTS, path, 320)
    tokenizer = load_tokenizer(path)
    about = {
        "padded_vocab_size": tokenizer.padded_vocab_size,
        "imgpad": tokenizer.specials.imgpad,
        "image_size": 64,
        "grid": 4,
    }
    (folder / "tokenizer.json").write_text(json.dumps(about))
    config = stage1.get_config(f"demo,data={folder}")
    for tower in (config.model.vit, config.model.decoder):
        tower.update(dict(width=32, layers=2, mlp_width=48))
    plain = json.loads(config.to_json())
    (folder / "config.json").write_text(json.dumps(plain))
    params = random_weights(settings.build(ModelConfig, plain["model"], "config.model"))
    checkpoints = Checkpoints(folder, CheckpointConfig(), plain)
    moments, data = {"steps": np.zeros((), np.int32)}, np.zeros((0, 0), np.int64)
    checkpoints.save(step, params=params, opt_state=moments, frozen={}, data=data)
    checkpoints.close()
    return folder
