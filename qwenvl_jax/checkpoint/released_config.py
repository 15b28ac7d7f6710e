"""A released `config.json` as a ModelConfig, and back."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qwenvl_jax.checkpoint.json_file import Table
from qwenvl_jax.model.config import AdapterConfig, DecoderConfig, ModelConfig, VitConfig

# Constants and defaults of the released code, which released files therefore need not say.
POSITION_GRID = 16  # side of the stored position table, whatever the image size
QUERIES = 256
HEAD_WIDTH = 128  # of the adapter
TOWER_EPS = 1e-6  # of the ViT's and the adapter's norms
IMAGE_START_ID = 151_857  # <img>
# Keys that change the network, with the values that this model has. An absent key has the first.
_ONLY: dict[str, tuple[Any, ...]] = {
    "model_type": ("qwen",),
    "rotary_pct": (1.0,),
    "no_bias": (True,),
    "tie_word_embeddings": (False,),
    "scale_attn_weights": (True,),
    "use_dynamic_ntk": (True,),
    "use_logn_attn": (True,),
    "attn_dropout_prob": (0.0,),
    "emb_dropout_prob": (0.0,),
    "use_cache_quantization": (False,),
}
# Keys that leave the numbers as they are.
_IDLE = {
    "architectures", "auto_map", "bf16", "dtype", "eos_token_id", "fp16", "fp32",
    "initializer_range", "max_position_embeddings", "not_run_by_released_code", "onnx_safe",
    "pad_token_id", "softmax_in_fp32", "tokenizer_class", "tokenizer_type", "torch_dtype",
    "transformers_version", "use_cache", "use_cache_kernel", "use_flash_attn", "_name_or_path",
}  # fmt: skip
_SIZES = {
    "hidden_size", "intermediate_size", "kv_channels", "layer_norm_epsilon", "num_attention_heads",
    "num_hidden_layers", "quantization_config", "rotary_emb_base", "seq_length", "visual",
    "vocab_size",
}  # fmt: skip
_EYES = {
    "adapter_eps", "adapter_heads", "eps", "heads", "image_size", "image_start_id", "layers",
    "mlp_ratio", "n_queries", "output_dim", "patch_size", "position_grid", "width",
}  # fmt: skip
# Keys of other decoders: the released code would not look at them, so nobody knows what they mean.
_FOREIGN = {
    "rope_theta": "rotary_emb_base",
    "rope_scaling": "use_dynamic_ntk",
    "partial_rotary_factor": "rotary_pct",
    "rms_norm_eps": "layer_norm_epsilon",
    "head_dim": "kv_channels",
    "num_key_value_heads": "num_attention_heads",
    "hidden_act": "SiLU, without a key",
    "attention_bias": "no_bias",
    "mlp_bias": "no_bias",
    "sliding_window": "full attention, without a key",
}
RELEASED_RATIO = 4.9231  # of the vision tower's MLP width to its width


def model_config(values: Mapping[str, Any], **changes: Any) -> ModelConfig:
    """Sizes from the released keys; `changes` are other fields (dtype, remat, scan_layers).

    Raises:
      ValueError: a key is missing, of a wrong type, or says what this model has not; names it.
    """
    file = Table(Path("config.json"), values)
    vit, adapter, decoder = vit_fields(file), adapter_fields(file), decoder_fields(file)
    return ModelConfig(
        vit=VitConfig(
            **_values(vit),
            image_size=file.table("visual").whole("image_size"),
            position_grid=file.table("visual").whole("position_grid", POSITION_GRID),
        ),
        adapter=AdapterConfig(**_values(adapter)),
        decoder=DecoderConfig(**_values(decoder)),
        **changes,
    )


class Stated(NamedTuple):
    """What a file says of one field of ours."""

    key: str  # the file's
    value: Any  # in our terms


def _values(fields: Mapping[str, Stated]) -> dict[str, Any]:
    return {name: stated.value for name, stated in fields.items()}


def vit_fields(file: Table) -> dict[str, Stated]:
    """Field of VitConfig -> what the file states; but for image size and position grid, which
    weights do not depend on or show themselves.

    Raises:
      ValueError: names the key.
    """
    _check(file)
    eyes = _eyes(file)
    width, heads = eyes.whole("width"), eyes.whole("heads")
    fields = {
        "patch_size": Stated("visual.patch_size", eyes.whole("patch_size")),
        "width": Stated("visual.width", width),
        "layers": Stated("visual.layers", eyes.whole("layers")),
        "heads": Stated("visual.heads", heads),
        "mlp_width": Stated("visual.mlp_ratio", int(width * eyes.number("mlp_ratio"))),
        "eps": Stated("visual.eps", eyes.number("eps", TOWER_EPS)),
    }
    if width % heads:
        eyes.refuse("heads", f"does not divide visual.width={width}")
    return fields


def adapter_fields(file: Table) -> dict[str, Stated]:
    """Field of AdapterConfig -> what the file states.

    Raises:
      ValueError: names the key.
    """
    _check(file)
    eyes = _eyes(file)
    width = eyes.whole("output_dim")
    if width != file.whole("hidden_size"):
        eyes.refuse("output_dim", f"is not hidden_size={file.values['hidden_size']}")
    heads = eyes.whole("adapter_heads", max(1, width // HEAD_WIDTH))
    return {
        "num_queries": Stated("visual.n_queries", eyes.whole("n_queries", QUERIES)),
        "heads": Stated("visual.adapter_heads", heads),
        "eps": Stated("visual.adapter_eps", eyes.number("adapter_eps", TOWER_EPS)),
    }


def decoder_fields(file: Table) -> dict[str, Stated]:
    """Field of DecoderConfig -> what the file states, `image_pad_id` only if it has a ViT.

    Raises:
      ValueError: names the key.
    """
    _check(file)
    width, heads = file.whole("hidden_size"), file.whole("num_attention_heads")
    if width % heads:
        file.refuse("num_attention_heads", f"does not divide hidden_size={width}")
    if file.whole("kv_channels", width // heads) * heads != width:
        file.refuse("kv_channels", f"is not hidden_size / num_attention_heads = {width // heads}")
    both = file.whole("intermediate_size")  # counts gate and up together
    if both % 2:
        file.refuse("intermediate_size", "is odd: it counts both halves of the gated MLP")
    fields = {
        "vocab_size": Stated("vocab_size", file.whole("vocab_size")),
        "width": Stated("hidden_size", width),
        "layers": Stated("num_hidden_layers", file.whole("num_hidden_layers")),
        "heads": Stated("num_attention_heads", heads),
        "mlp_width": Stated("intermediate_size", both // 2),
        "train_length": Stated("seq_length", file.whole("seq_length")),
        "rope_base": Stated("rotary_emb_base", float(file.number("rotary_emb_base", 10_000))),
        "eps": Stated("layer_norm_epsilon", file.number("layer_norm_epsilon", 1e-6)),
    }
    if "visual" in file.values:
        start = file.table("visual").whole("image_start_id", IMAGE_START_ID)
        fields["image_pad_id"] = Stated("visual.image_start_id", start + 2)
    return fields


def unknown_keys(file: Table) -> list[str]:
    """Keys of a released configuration that nothing here looks at."""
    known = _IDLE | _SIZES | _ONLY.keys() | _FOREIGN.keys()
    found = [key for key in file.values if key not in known]
    eyes = file.table("visual")
    return sorted(found + [eyes.key(key) for key in eyes.values if key not in _EYES])


def _eyes(file: Table) -> Table:
    if "visual" not in file.values:
        raise ValueError(f"{file.path}: key 'visual' is missing: this model has no vision tower")
    return file.table("visual")


def _check(file: Table) -> None:
    """Refuse weights of another make, quantised ones, and switches that change the network."""
    if file.values.get("quantization_config") is not None:
        about = file.values["quantization_config"]
        method = about.get("quant_method", "unknown") if isinstance(about, Mapping) else about
        raise ValueError(
            f"{file.path}: quantization_config: the weights are quantised ({method}); take the"
            " release in bfloat16"
        )
    for key, values in _ONLY.items():
        file.only(key, *values)
    for key, ours in _FOREIGN.items():
        if file.values.get(key) is not None:
            file.refuse(key, f"is no key of a released Qwen-VL or Qwen-7B; there it is {ours}")


def require_released_adapter(config: ModelConfig) -> None:
    """Raises ValueError, naming the config key, for an adapter that no released file can hold."""
    adapter = config.adapter
    if adapter.kind != "cross_attention" or not adapter.positions:
        raise ValueError(
            f"config.model.adapter.kind={adapter.kind!r}, positions={adapter.positions}: the"
            " released layout has cross-attention with positions, and no other adapter"
        )


def released_config(config: ModelConfig, *, dtype: str) -> dict[str, Any]:
    """The released keys for a model; `auto_map` is for whoever adds the model code to say.

    Four numbers are constants of the released code. A model with others says them in keys of our
    own, `visual.position_grid`, `visual.adapter_heads`, `visual.eps` and `visual.adapter_eps`: it
    comes back here, but that code cannot run it.

    Raises:
      ValueError: an MLP width that no ratio gives, or an adapter or windows that this layout has
      not; names the config key.
    """
    require_released_adapter(config)
    vit, decoder = config.vit, config.decoder
    if vit.window:
        raise ValueError(
            f"config.model.vit.window={vit.window}: the released layout has no windows"
        )
    own = {}
    if vit.position_grid != POSITION_GRID:
        own["position_grid"] = vit.position_grid
    if config.adapter.heads != max(1, decoder.width // HEAD_WIDTH):
        own["adapter_heads"] = config.adapter.heads
    if vit.eps != TOWER_EPS:
        own["eps"] = vit.eps
    if config.adapter.eps != TOWER_EPS:
        own["adapter_eps"] = config.adapter.eps
    return {
        "architectures": ["QWenLMHeadModel"],
        "attn_dropout_prob": 0.0,
        "bf16": dtype == "bfloat16",
        "emb_dropout_prob": 0.0,
        "fp16": False,
        "fp32": dtype == "float32",
        "hidden_size": decoder.width,
        "initializer_range": 0.02,
        "intermediate_size": 2 * decoder.mlp_width,
        "kv_channels": decoder.head_width,
        "layer_norm_epsilon": decoder.eps,
        "max_position_embeddings": 4 * decoder.train_length,
        "model_type": "qwen",
        "no_bias": True,
        "num_attention_heads": decoder.heads,
        "num_hidden_layers": decoder.layers,
        "onnx_safe": None,
        "rotary_emb_base": decoder.rope_base,
        "rotary_pct": 1.0,
        "scale_attn_weights": True,
        "seq_length": decoder.train_length,
        "tie_word_embeddings": False,
        "tokenizer_type": "QWenTokenizer",
        "torch_dtype": dtype,
        "use_cache": True,
        "use_dynamic_ntk": True,
        "use_flash_attn": False,
        "use_logn_attn": True,
        "visual": {
            "heads": vit.heads,
            "image_size": vit.image_size,
            "image_start_id": decoder.image_pad_id - 2,
            "layers": vit.layers,
            "mlp_ratio": mlp_ratio(vit.width, vit.mlp_width),
            "n_queries": config.adapter.num_queries,
            "output_dim": decoder.width,
            "patch_size": vit.patch_size,
            "width": vit.width,
            **own,
        },
        "vocab_size": decoder.vocab_size,
    }


def mlp_ratio(width: int, mlp_width: int) -> float:
    """A ratio from which `int(width * ratio)` is the MLP's width: the released one where it fits,
    else the shortest.

    Rounded up: the product is cut, never rounded.

    Raises:
      ValueError: there is none; names the config key.
    """
    shortest = (math.ceil(mlp_width / width * 10**n) / 10**n for n in range(17))
    for ratio in (RELEASED_RATIO, *shortest):
        if int(width * ratio) == mlp_width:
            return ratio
    raise ValueError(f"config.model.vit.mlp_width={mlp_width}: no ratio of {width} gives it")
