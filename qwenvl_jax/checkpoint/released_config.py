"""A released `config.json` as a ModelConfig, and back."""

import math
from collections.abc import Mapping
from typing import Any

from qwenvl_jax.model.config import AdapterConfig, DecoderConfig, ModelConfig, VitConfig

POSITION_GRID = 16  # side of the stored position table, whatever the image size
RELEASED_RATIO = 4.9231  # of the vision tower's MLP width to its width


def model_config(values: Mapping[str, Any], **changes: Any) -> ModelConfig:
    """Sizes from the released keys; `changes` are other fields (dtype, remat, scan_layers).

    Raises:
      ValueError: a key is missing; names it.
    """

    def get(key: str, table: Mapping[str, Any] = values, prefix: str = "") -> Any:
        if key not in table:
            raise ValueError(f"config.json: key {prefix + key!r} is missing")
        return table[key]

    eyes = get("visual")

    def see(key: str) -> Any:
        return get(key, eyes, "visual.")

    vit = VitConfig(
        image_size=see("image_size"),
        patch_size=see("patch_size"),
        width=see("width"),
        layers=see("layers"),
        heads=see("heads"),
        mlp_width=int(see("width") * see("mlp_ratio")),
        position_grid=eyes.get("position_grid", POSITION_GRID),
    )
    decoder = DecoderConfig(
        vocab_size=get("vocab_size"),
        width=get("hidden_size"),
        layers=get("num_hidden_layers"),
        heads=get("num_attention_heads"),
        mlp_width=get("intermediate_size") // 2,  # the released key counts gate and up together
        train_length=get("seq_length"),
        image_pad_id=see("image_start_id") + 2,
        rope_base=float(get("rotary_emb_base")),
        eps=get("layer_norm_epsilon"),
    )
    adapter = AdapterConfig(
        num_queries=see("n_queries"), heads=eyes.get("adapter_heads", see("output_dim") // 128)
    )
    return ModelConfig(vit=vit, adapter=adapter, decoder=decoder, **changes)


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

    Two sizes are constants of the released code. A model with others says them in keys of our own,
    `visual.position_grid` and `visual.adapter_heads`: it comes back here, but that code cannot run
    it.

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
    if config.adapter.heads != decoder.width // 128:
        own["adapter_heads"] = config.adapter.heads
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
