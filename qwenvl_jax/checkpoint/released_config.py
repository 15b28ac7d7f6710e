"""A released `config.json` as a ModelConfig."""

from collections.abc import Mapping
from typing import Any

from qwenvl_jax.model.config import AdapterConfig, DecoderConfig, ModelConfig, VitConfig

POSITION_GRID = 16  # side of the stored position table, whatever the image size


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
        position_grid=POSITION_GRID,
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
    adapter = AdapterConfig(num_queries=see("n_queries"), heads=see("output_dim") // 128)
    return ModelConfig(vit=vit, adapter=adapter, decoder=decoder, **changes)
