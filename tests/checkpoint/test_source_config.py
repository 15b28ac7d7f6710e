"""Configuration files of others: a field that changes numbers is taken or refused by its name."""

import dataclasses
import json
import math
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from qwenvl_jax.checkpoint.finite import all_finite
from qwenvl_jax.checkpoint.released_config import model_config, released_config
from qwenvl_jax.checkpoint.source_config import require_same, stated_fields
from qwenvl_jax.model.config import ModelConfig

# As it stands beside the released weights: no `visual.n_queries`, a rounded ratio.
RELEASED = {
    "architectures": ["QWenLMHeadModel"], "attn_dropout_prob": 0.0,
    "auto_map": {"AutoConfig": "configuration_qwen.QWenConfig"}, "bf16": True,
    "emb_dropout_prob": 0.0, "fp16": False, "fp32": False, "hidden_size": 4096,
    "initializer_range": 0.02, "intermediate_size": 22016, "kv_channels": 128,
    "layer_norm_epsilon": 1e-06, "max_position_embeddings": 8192, "model_type": "qwen",
    "no_bias": True, "num_attention_heads": 32, "num_hidden_layers": 32, "onnx_safe": None,
    "rotary_emb_base": 10000, "rotary_pct": 1.0, "scale_attn_weights": True, "seq_length": 2048,
    "tie_word_embeddings": False, "tokenizer_type": "QWenTokenizer", "torch_dtype": "bfloat16",
    "transformers_version": "4.32.0", "use_cache": True, "use_dynamic_ntk": True,
    "use_flash_attn": "auto", "use_logn_attn": True,
    "visual": {
        "heads": 16, "image_size": 448, "image_start_id": 151857, "layers": 48,
        "mlp_ratio": 4.9231, "output_dim": 4096, "patch_size": 14, "width": 1664,
    },
    "vocab_size": 151936,
}  # fmt: skip
OPENCLIP = {
    "model_cfg": {
        "embed_dim": 1280,
        "vision_cfg": {
            "image_size": 224, "layers": 48, "width": 1664, "head_width": 104,
            "mlp_ratio": 4.9231, "patch_size": 14,
        },
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 1280, "heads": 20},
    },
    "preprocess_cfg": {
        "mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711],
    },
}  # fmt: skip


def write(folder: Path, values, name="config.json") -> Path:
    (folder / name).write_text(json.dumps(values))
    return folder / name


def test_the_released_file_as_it_is():
    """An import of the real directory must not ask for a key that it does not have."""
    assert model_config(RELEASED) == ModelConfig.released()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"rotary_pct": 0.25}, "rotary_pct=0.25 is not supported; supported is 1.0"),
        ({"no_bias": False}, "no_bias=False is not supported"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings=True is not supported"),
        ({"use_dynamic_ntk": False}, "use_dynamic_ntk=False is not supported"),
        ({"use_logn_attn": None}, "use_logn_attn=None is not supported"),
        ({"scale_attn_weights": False}, "scale_attn_weights=False is not supported"),
        ({"attn_dropout_prob": 0.1}, "attn_dropout_prob=0.1 is not supported"),
        ({"use_cache_quantization": True}, "use_cache_quantization=True is not supported"),
        ({"kv_channels": 64}, "kv_channels=64 is not hidden_size / num_attention_heads = 128"),
        ({"num_attention_heads": 24}, "num_attention_heads=24 does not divide hidden_size=4096"),
        ({"intermediate_size": 22017}, "intermediate_size=22017 is odd"),
        ({"model_type": "qwen2"}, "model_type='qwen2' is not supported"),
        ({"rope_theta": 1e6}, "rope_theta=1000000.0 is no key .* rotary_emb_base"),
        ({"num_key_value_heads": 4}, "num_key_value_heads=4 is no key"),
        ({"quantization_config": {"quant_method": "gptq"}}, r"quantised \(gptq\)"),
        ({"hidden_size": "4096"}, "hidden_size must be a number above 0, not '4096'"),
        ({"hidden_size": 4096.5}, "hidden_size=4096.5 is no whole number"),
        ({"rotary_emb_base": math.nan}, "rotary_emb_base must be a number above 0, not nan"),
        ({"layer_norm_epsilon": True}, "layer_norm_epsilon must be a number above 0, not True"),
        ({"visual": 3}, "visual is no object"),
        ({"visual": RELEASED["visual"] | {"output_dim": 2048}}, "visual.output_dim=2048 is not"),
        ({"visual": RELEASED["visual"] | {"heads": 15}}, "visual.heads=15 does not divide"),
        ({"visual": {}}, "key 'visual.width' is missing"),
    ],
)
def test_networks_that_this_model_is_not_are_refused(tmp_path, changes, message):
    """Whichever tower is asked for, read with other settings its numbers would be wrong."""
    file = write(tmp_path, RELEASED | changes)
    with pytest.raises(ValueError, match=message):
        model_config(RELEASED | changes)
    told = []
    for tower in ("vit", "adapter", "decoder"):
        try:
            stated_fields(file, tower)
        except ValueError as error:
            assert str(file) in str(error)
            told.append(tower)
    assert told  # a key of one tower need not stop another


@pytest.mark.parametrize(
    "tower, changes, message",
    [
        ("decoder", {"rotary_emb_base": 10**6}, "rotary_emb_base=1000000.0 .*rope_base=10000.0"),
        ("decoder", {"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon=1e-05 .*eps=1e-06"),
        ("decoder", {"num_attention_heads": 64, "kv_channels": 64}, "num_attention_heads=64"),
        ("decoder", {"seq_length": 8192}, "seq_length=8192 .*train_length=2048"),
        ("vit", {"visual": RELEASED["visual"] | {"heads": 8}}, "visual.heads=8 .*vit.heads=16"),
        ("vit", {"visual": RELEASED["visual"] | {"eps": 1e-5}}, "visual.eps=1e-05"),
        ("adapter", {"visual": RELEASED["visual"] | {"adapter_heads": 8}}, "adapter.heads=32"),
    ],
)
def test_a_difference_that_no_shape_shows_is_refused(tmp_path, tower, changes, message):
    """`config.init.*` reads tensors that fit into a model which computes something else."""
    require_same(ModelConfig.released(), tower, write(tmp_path, RELEASED))
    with pytest.raises(ValueError, match=message):
        require_same(ModelConfig.released(), tower, write(tmp_path, RELEASED | changes))


def changed_clip(part: str, **values):
    config = json.loads(json.dumps(OPENCLIP))
    tables = {"preprocess_cfg": config["preprocess_cfg"], "model_cfg": config["model_cfg"]}
    (tables | config["model_cfg"])[part].update(values)
    return config


@pytest.mark.parametrize(
    "part, values, message",
    [
        ("model_cfg", {"quick_gelu": True}, "model_cfg.quick_gelu=True is not supported"),
        ("model_cfg", {"quick_gelu": "yes"}, "model_cfg.quick_gelu='yes' is not supported"),
        ("vision_cfg", {"timm_model_name": "vit_so400m"}, "timm_model_name='vit_so400m'"),
        ("vision_cfg", {"act_kwargs": {"approximate": "tanh"}}, "vision_cfg.act_kwargs"),
        ("vision_cfg", {"ls_init_value": 0.1}, "ls_init_value=0.1 is not supported"),
        ("vision_cfg", {"no_ln_pre": True}, "no_ln_pre=True is not supported"),
        ("vision_cfg", {"head_width": 208}, r"heads=8 .*vit.heads=16"),
        ("vision_cfg", {"head_width": 100}, "width=1664 is no multiple"),
        ("preprocess_cfg", {"mean": [0.5, 0.5, 0.5]}, r"preprocess_cfg.mean=\[0.5, 0.5, 0.5\]"),
        ("preprocess_cfg", {"interpolation": "bilinear"}, "interpolation='bilinear'"),
    ],
)
def test_towers_of_another_make_are_refused(tmp_path, part, values, message):
    """An OpenAI CLIP's ViT has quick GELU: with exact GELU each layer is a little off."""
    config, name = ModelConfig.released(), "open_clip_config.json"
    require_same(config, "vit", write(tmp_path, OPENCLIP, name))
    text = changed_clip("text_cfg", hf_model_name="roberta")  # not this tower's
    require_same(config, "vit", write(tmp_path, text, name))
    with pytest.raises(ValueError, match=message):
        require_same(config, "vit", write(tmp_path, changed_clip(part, **values), name))


def test_what_the_released_code_has_as_constants_is_written_in_keys_of_our_own():
    """Left out, a model with another epsilon would come back with the released one."""
    base = ModelConfig.released()
    config = dataclasses.replace(
        base,
        vit=dataclasses.replace(base.vit, eps=1e-5, position_grid=8),
        adapter=dataclasses.replace(base.adapter, eps=2e-5, heads=16, num_queries=64),
        decoder=dataclasses.replace(base.decoder, eps=3e-5, rope_base=5e5),
    )
    assert model_config(json.loads(json.dumps(released_config(config, dtype="float32")))) == config


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_finite_is_what_numpy_says(dtype):
    """The check reads bits: each sign, NaNs of both signs, the largest and the smallest number."""
    rng = np.random.default_rng(0)
    big = ml_dtypes.finfo(dtype).max
    for special in (np.nan, -np.nan, np.inf, -np.inf, big, -big, 0.0, -0.0):
        for sign in (1, -1):
            x = (sign * np.abs(rng.standard_normal((3, 5)))).astype(dtype)
            assert all_finite(x)
            x[1, 2] = special
            assert all_finite(x) == np.isfinite(x.astype(np.float64)).all(), special
            assert all_finite(x.T[::2]) == np.isfinite(x.T[::2].astype(np.float64)).all()
    assert all_finite(np.zeros((0, 3), dtype))
