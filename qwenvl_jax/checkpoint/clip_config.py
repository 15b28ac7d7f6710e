"""CLIP's sizes from `open_clip_config.json` (OpenCLIP) or `config.json` (Hugging Face).

A setting that changes the network and is not written here is refused: a score of another network
would look like any other score.
"""

from pathlib import Path
from typing import Any

from qwenvl_jax.checkpoint.json_file import Table, read_object
from qwenvl_jax.model.clip import ClipConfig, ClipTextConfig
from qwenvl_jax.model.config import VitConfig
from qwenvl_jax.model.vit import MEAN, STD

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
    values = read_object(path)
    return (_openclip if path.name == OPENCLIP else _huggingface)(Table(path, values), dtype)


def read_vision(path: Path) -> VitConfig:
    """The vision tower's sizes by OpenCLIP's file, for the tower without its class token and pool.

    `eps` is OpenCLIP's own, 1e-5. The text tower's settings are not looked at.

    Raises:
      ValueError: there is no such file; a key is missing, unknown or unsupported; or the tower
        differs from the ViT of a Qwen-VL in its activation or in the colours that it is given.
    """
    file = Table(path, read_object(path))
    vit, activation, colours = _openclip_vision(file)
    if activation != "gelu":
        file.table("model_cfg").refuse("quick_gelu", "is not supported: the ViT has exact GELU")
    pictures = file.table("preprocess_cfg")
    for key, ours in (("mean", MEAN), ("std", STD)):
        # Files round them to as few as four digits.
        if key in colours and max(abs(a - b) for a, b in zip(colours[key], ours)) > 1e-3:
            pictures.refuse(key, f"is not supported: the ViT has {tuple(map(float, ours))}")
    return vit


def _check_known(table: Table, *known: str) -> None:
    """Refuse a key that is neither known nor idle nor at the value of the plain network."""
    for key in table.values.keys() - set(known) - _IDLE:
        if key not in _PLAIN:
            table.refuse(key, "is not known")
        table.only(key, *_PLAIN[key])


def _colours(table: Table, key: str) -> dict[str, tuple[float, ...]]:
    """Nothing where the table has no such key: the usual values then hold."""
    if key not in table.values:
        return {}
    value = table.values[key]
    if (
        not isinstance(value, list)
        or len(value) != 3
        or not all(isinstance(x, int | float) for x in value)
    ):
        table.refuse(key, "is no list of three numbers")
    return {key.removeprefix("image_"): tuple(map(float, value))}


def _openclip_vision(file: Table) -> tuple[VitConfig, str, dict[str, tuple[float, ...]]]:
    """(sizes, activation, mean and std as far as they are given)."""
    model, pictures = file.table("model_cfg"), file.table("preprocess_cfg")
    _check_known(model, "embed_dim", "quick_gelu", "vision_cfg", "text_cfg")
    see = model.table("vision_cfg")
    _check_known(see, "image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio")
    model.only("quick_gelu", False, True)
    pictures.only("interpolation", "bicubic")
    pictures.only("resize_mode", "shortest", "squash")
    width, head = see.whole("width", 768), see.whole("head_width", 64)
    if width % head:
        see.refuse("width", f"is no multiple of {see.key('head_width')}={head}")
    vit = _vit(
        see, image_size=see.whole("image_size", 224), patch_size=see.whole("patch_size", 16),
        width=width, layers=see.whole("layers", 12), heads=width // head,
        mlp_width=int(width * see.number("mlp_ratio", 4.0)),
    )  # fmt: skip
    activation = "quick_gelu" if model.values.get("quick_gelu") else "gelu"
    return vit, activation, _colours(pictures, "mean") | _colours(pictures, "std")


def _openclip(file: Table, dtype: str) -> ClipConfig:
    vit, activation, colours = _openclip_vision(file)
    # A text goes with the whole image: only the shorter side decides the scale.
    file.table("preprocess_cfg").only("resize_mode", "shortest")
    model = file.table("model_cfg")
    read = model.table("text_cfg")
    _check_known(read, "context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio")
    text = ClipTextConfig(
        vocab_size=read.whole("vocab_size", 49408),
        context_length=read.whole("context_length", 77),
        width=read.whole("width", 512),
        layers=read.whole("layers", 12),
        heads=read.whole("heads", 8),
        mlp_width=int(read.whole("width", 512) * read.number("mlp_ratio", 4.0)),
    )
    return ClipConfig(
        vit=vit, text=text, embed_dim=model.whole("embed_dim"), dtype=dtype,
        activation=activation, **colours,
    )  # fmt: skip


def _huggingface(file: Table, dtype: str) -> ClipConfig:
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
        vocab_size=read.whole("vocab_size", 49408),
        context_length=read.whole("max_position_embeddings", 77),
        width=read.whole("hidden_size", 512),
        layers=read.whole("num_hidden_layers", 12),
        heads=read.whole("num_attention_heads", 8),
        mlp_width=read.whole("intermediate_size", 2048),
        eps=read.number("layer_norm_eps", 1e-5),
    )
    vit = _vit(
        see, image_size=see.whole("image_size", 224), patch_size=see.whole("patch_size", 32),
        width=see.whole("hidden_size", 768), layers=see.whole("num_hidden_layers", 12),
        heads=see.whole("num_attention_heads", 12),
        mlp_width=see.whole("intermediate_size", 3072), eps=see.number("layer_norm_eps", 1e-5),
    )  # fmt: skip
    path = file.path.with_name("preprocessor_config.json")
    pictures = Table(path, read_object(path) if path.is_file() else {})
    if pictures.values.get("resample", 3) != 3:
        pictures.refuse("resample", "is not 3, bicubic")
    return ClipConfig(
        vit=vit, text=text, embed_dim=file.whole("projection_dim", 512), dtype=dtype,
        activation=activation,
        **_colours(pictures, "image_mean"), **_colours(pictures, "image_std"),
    )  # fmt: skip


def _vit(table: Table, *, eps: float = 1e-5, **sizes: Any) -> VitConfig:
    grid = sizes["image_size"] // sizes["patch_size"]
    try:
        return VitConfig(**sizes, position_grid=grid, eps=eps)
    except ValueError as error:
        raise ValueError(f"{table.path}: {error}") from None
