"""If these break, a CLIP of another network is taken for the one that was asked for."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from data_pipelines.clip.scorer import ClipScorer
from qwenvl_jax.checkpoint.clip import load_clip
from qwenvl_jax.text.clip_bpe import load_clip_tokenizer
from tests.clip_pairs import REFERENCE, clip_pairs

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(REFERENCE, tmp_path / "clip")


def change(folder, table: str, **values) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (config["model_cfg"][table] if table else config["model_cfg"]).update(values)
    (folder / CONFIG).write_text(json.dumps(config))


def test_recorded_scores(folder):
    images, texts = zip(*clip_pairs())
    recorded = json.loads((REFERENCE / "scores.json").read_text())
    scorer = ClipScorer(folder, batch_size=8, dtype="float32")
    np.testing.assert_allclose(scorer(images, texts), recorded, atol=1e-4)
    # Pairs on both sides of a batch's border, and none at all.
    many = scorer(images * 4, texts * 4)
    np.testing.assert_allclose(many, recorded * 4, atol=1e-4)
    assert scorer([], []).shape == (0,)


@pytest.mark.parametrize(
    "table, values, message",
    [
        ("vision_cfg", {"pool_type": "avg"}, "vision_cfg.pool_type='avg' is not supported"),
        ("vision_cfg", {"no_ln_pre": True}, "no_ln_pre=True is not supported"),
        ("vision_cfg", {"timm_model_name": "vit_b"}, "timm_model_name"),
        ("vision_cfg", {"colour": 3}, "vision_cfg.colour=3 is not known"),
        ("vision_cfg", {"image_size": 224.5}, "image_size"),
        ("vision_cfg", {"layers": 3}, "missing: visual.transformer.resblocks.2"),
        ("vision_cfg", {"layers": 1}, "unknown: visual.transformer.resblocks.1"),
        ("vision_cfg", {"layers": "two"}, "vision_cfg.layers must be a number above 0, not 'two'"),
        ("text_cfg", {"width": 24}, "has shape .*, expected .* by the config"),
        ("text_cfg", {"vocab_size": 600}, "token_embedding.*expected"),
        ("text_cfg", {"hf_model_name": "roberta"}, "hf_model_name='roberta' is not supported"),
        ("text_cfg", {"no_causal_mask": True}, "no_causal_mask"),
        ("", {"custom_text": True}, "custom_text=True is not supported"),
    ],
)
def test_other_networks_are_refused(folder, table, values, message):
    change(folder, table, **values)
    with pytest.raises(ValueError, match=message):
        load_clip(folder)


def test_damaged_folders_are_named(folder):
    tensors = load_file(folder / WEIGHTS)
    save_file(tensors | {"visual.ln_9.weight": np.zeros(3, np.float32)}, folder / WEIGHTS)
    with pytest.raises(ValueError, match="unknown: visual.ln_9.weight"):
        load_clip(folder)
    (folder / CONFIG).write_text("{")
    with pytest.raises(ValueError, match=f"{CONFIG}: no JSON"):
        load_clip(folder)
    (folder / CONFIG).unlink()
    with pytest.raises(ValueError, match=f"{CONFIG} is missing"):
        load_clip(folder)
    (folder / WEIGHTS).write_bytes(b"rubbish")
    with pytest.raises(ValueError, match=f"{WEIGHTS}: no whole safetensors file"):
        load_clip(folder)
    with pytest.raises(ValueError, match="523 entries, the model has 600"):
        load_clip_tokenizer(folder, vocab_size=600)
    (folder / "merges.txt").write_text("#version\na b c\n")
    with pytest.raises(ValueError, match="merges.txt: no file of merges"):
        load_clip_tokenizer(folder, vocab_size=523)
    (folder / "tokenizer.json").write_text('{"model": []}')
    with pytest.raises(ValueError, match="tokenizer.json: no file of merges"):
        load_clip_tokenizer(folder, vocab_size=523)


def test_batches_divide_among_devices(folder):
    with pytest.raises(ValueError, match="--batch_size=7 must be a multiple"):
        ClipScorer(folder, batch_size=7)
    with pytest.raises(ValueError, match="--dtype=float8"):
        ClipScorer(folder, dtype="float8")
