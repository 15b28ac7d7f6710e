"""CLIP's sizes from `open_clip_config.json` (OpenCLIP) or `config.json` (Hugging Face).

A setting that changes the network and is not written here is refused: a score of another network
would look like any other score.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwenvl_jax.model.clip import ClipConfig, ClipTextConfig
from qwenvl_jax.model.config import VitConfig

OPENCLIP, HUGGINGFACE = "open_clip_config.json", "config.json"
# Settings that may stand in OpenCLIP's file with this value only: the plain network.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "ls_init_value": (None,), "attentional_pool": (False, "", None), "no_ln_pre": (False,),
    "pos_embed_type": ("learnable",), "final_ln_after_pool": (False,), "output_tokens": (False,),
    "act_kwargs": (None, {}), "norm_kwargs": (None, {}), "block_type": (None, "default"),
    "qk_norm": (False,), "scaled_cosine_attn": (False,), "scale_heads": (False,),
    "scale_attn_inner": (False,), "scale_attn": (False,), "scale_fc": (False,),
    "timm_model_name": (None, ""), "hf_model_name": (None, ""), "hf_tokenizer_name": (None, ""),
    "tokenizer_mode": (None,), "tokenizer_kwargs": (None, {}), "embed_cls": (False,),
    "no_causal_mask": (False,), "proj_bias": (False,), "proj_type": ("linear",),
    "custom_text": (False,), "multimodal_cfg": (None,), "nonscalar_logit_scale": (False,),
    "init_logit_bias": (None,), "pool_type": ("tok", "argmax"),
}  # fmt: skip
# Settings of training, and of a way of pooling that is refused above.
_IDLE = {"patch_dropout", "pad_id", "eos_id", "init_logit_scale"}


def read_config(path: Path, *, dtype: str) -> ClipConfig:
    """The sizes by one of the two files, told apart by its name.

    Raises:
      ValueError: there is no such file, or a key is missing, unknown or unsupported.
    """
    if not path.is_file():
        raise ValueError(f"CLIP weights: {path} is missing")
    return (_openclip if path.name == OPENCLIP else _huggingface)(_Table(path), dtype)


class _Table:
    """A JSON object whose errors name the file and the key."""

    def __init__(self, path: Path, values: Any = None, prefix: str = ""):
        self._path, self._prefix = path, prefix
        try:
            self.values = json.loads(path.read_bytes()) if values is None else values
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: no JSON: {error}") from None
        if not isinstance(self.values, Mapping):
            raise ValueError(f"{path}: {prefix or 'the file'} is no object")

    def table(self, key: str) -> "_Table":
        return _Table(self._path, self.values.get(key, {}), f"{self._prefix}{key}.")

    def number(self, key: str, default: int | float | None = None) -> Any:
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise ValueError(f"{self._path}: {self._prefix}{key} must be a number, not {value!r}")
        return value

    def refuse(self, key: str, why: str) -> None:
        value = self.values.get(key)
        raise ValueError(f"{self._path}: {self._prefix}{key}={value!r} {why}")

    def only(self, *known: str) -> None:
        for key, value in self.values.items():
            if key in known or key in _IDLE:
                continue
            if key not in _PLAIN:
                self.refuse(key, "is not known")
            if value not in _PLAIN[key]:
                self.refuse(key, f"is not supported, {_PLAIN[key][0]!r} is")

    def colours(self, key: str) -> dict[str, tuple[float, ...]]:
        """Nothing where the table has no such key: the usual values then hold."""
        if key not in self.values:
            return {}
        value = self.values[key]
        if not isinstance(value, list) or len(value) != 3:
            self.refuse(key, "is no list of three numbers")
        return {key.removeprefix("image_"): tuple(map(float, value))}


def _openclip(file: _Table, dtype: str) -> ClipConfig:
    model, pictures = file.table("model_cfg"), file.table("preprocess_cfg")
    model.only("embed_dim", "quick_gelu", "vision_cfg", "text_cfg")
    see, read = model.table("vision_cfg"), model.table("text_cfg")
    see.only("image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio")
    read.only("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio")
    for key, value in (("interpolation", "bicubic"), ("resize_mode", "shortest")):
        if pictures.values.get(key, value) != value:
            pictures.refuse(key, f"is not supported, {value!r} is")
    text = ClipTextConfig(
        vocab_size=read.number("vocab_size", 49408),
        context_length=read.number("context_length", 77),
        width=read.number("width", 512),
        layers=read.number("layers", 12),
        heads=read.number("heads", 8),
        mlp_width=int(read.number("width", 512) * read.number("mlp_ratio", 4.0)),
    )
    width = see.number("width", 768)
    vit = _vit(
        see, image_size=see.number("image_size", 224), patch_size=see.number("patch_size", 16),
        width=width, layers=see.number("layers", 12), heads=width // see.number("head_width", 64),
        mlp_width=int(width * see.number("mlp_ratio", 4.0)),
    )  # fmt: skip
    return ClipConfig(
        vit=vit, text=text, embed_dim=model.number("embed_dim"), dtype=dtype,
        activation="quick_gelu" if model.values.get("quick_gelu") else "gelu",
        **pictures.colours("mean"), **pictures.colours("std"),
    )  # fmt: skip


def _huggingface(file: _Table, dtype: str) -> ClipConfig:
    """Keys that stand at their default may be absent; the defaults are those of OpenAI's B/32."""
    if file.values.get("model_type") != "clip":
        file.refuse("model_type", "is not 'clip'")
    see, read = file.table("vision_config"), file.table("text_config")
    activation = see.values.get("hidden_act", "quick_gelu")
    if activation not in ("gelu", "quick_gelu"):
        see.refuse("hidden_act", "is neither 'gelu' nor 'quick_gelu'")
    if read.values.get("hidden_act", "quick_gelu") != activation:
        read.refuse("hidden_act", f"differs from the vision tower's {activation!r}")
    text = ClipTextConfig(
        vocab_size=read.number("vocab_size", 49408),
        context_length=read.number("max_position_embeddings", 77),
        width=read.number("hidden_size", 512),
        layers=read.number("num_hidden_layers", 12),
        heads=read.number("num_attention_heads", 8),
        mlp_width=read.number("intermediate_size", 2048),
        eps=read.number("layer_norm_eps", 1e-5),
    )
    vit = _vit(
        see, image_size=see.number("image_size", 224), patch_size=see.number("patch_size", 32),
        width=see.number("hidden_size", 768), layers=see.number("num_hidden_layers", 12),
        heads=see.number("num_attention_heads", 12),
        mlp_width=see.number("intermediate_size", 3072), eps=see.number("layer_norm_eps", 1e-5),
    )  # fmt: skip
    path = file._path.with_name("preprocessor_config.json")
    pictures = _Table(path) if path.is_file() else _Table(path, {})
    if pictures.values.get("resample", 3) != 3:
        pictures.refuse("resample", "is not 3, bicubic")
    return ClipConfig(
        vit=vit, text=text, embed_dim=file.number("projection_dim", 512), dtype=dtype,
        activation=activation,
        **pictures.colours("image_mean"), **pictures.colours("image_std"),
    )  # fmt: skip


def _vit(table: _Table, *, eps: float = 1e-5, **sizes: Any) -> VitConfig:
    for key, value in sizes.items():
        if not isinstance(value, int):
            table.refuse(key, "is no whole number")
    grid = sizes["image_size"] // sizes["patch_size"]
    return VitConfig(**sizes, position_grid=grid, eps=eps)
