"""Sizes of a Qwen-VL model, as `config.json` holds them under `sizes`."""

import math
from types import SimpleNamespace
from typing import Any

from transformers import PreTrainedConfig

RELEASED = {
    "vit": {
        "image_size": 448,
        "patch_size": 14,
        "width": 1664,
        "layers": 48,
        "heads": 16,
        "mlp_width": 8192,
        "position_grid": 16,
        "window": 0,
        "eps": 1e-6,
    },
    "adapter": {
        "num_queries": 256,
        "heads": 32,
        "kind": "cross_attention",
        "positions": True,
        "eps": 1e-6,
    },
    "decoder": {
        "vocab_size": 151_936,
        "width": 4096,
        "layers": 32,
        "heads": 32,
        "mlp_width": 11_008,
        "train_length": 2048,
        "image_pad_id": 151_859,
        "rope_base": 10_000.0,
        "eps": 1e-6,
    },
}
ADAPTERS = ("cross_attention", "mlp", "pooling")


class QwenVLConfig(PreTrainedConfig):
    """Sizes of the three towers: `vit`, `adapter` and `decoder`."""

    model_type = "qwenvl_jax"
    keys_to_ignore_at_inference = ["past_key_values"]

    def __init__(self, sizes: dict[str, dict[str, Any]] | None = None, **kwargs: Any):
        """Check the sizes and keep them.

        Args:
          sizes: of each tower; None: those of the released model.

        Raises:
          ValueError: a size is missing or does not fit another; names it.
        """
        self.sizes = RELEASED if sizes is None else sizes
        for tower, keys in RELEASED.items():
            missing = sorted(set(keys) - set(self.sizes.get(tower, {})))
            if missing:
                raise ValueError(f"config.json: sizes.{tower}.{missing[0]} is missing")
        kind = self.adapter_sizes.kind
        if kind not in ADAPTERS:
            raise ValueError(
                f"config.json: sizes.adapter.kind={kind!r} is none of {', '.join(ADAPTERS)}"
            )
        queries = self.adapter_sizes.num_queries
        if math.isqrt(queries) ** 2 != queries:
            raise ValueError(f"config.json: sizes.adapter.num_queries={queries} is no square")
        super().__init__(**kwargs)

    # `vit`, `adapter` and `decoder` would be taken for nested configs by transformers.
    @property
    def vit_sizes(self) -> SimpleNamespace:
        return SimpleNamespace(**self.sizes["vit"])

    @property
    def adapter_sizes(self) -> SimpleNamespace:
        return SimpleNamespace(**self.sizes["adapter"])

    @property
    def decoder_sizes(self) -> SimpleNamespace:
        return SimpleNamespace(**self.sizes["decoder"])

    # What transformers reads of a decoder.
    @property
    def vocab_size(self) -> int:
        return self.sizes["decoder"]["vocab_size"]

    @property
    def hidden_size(self) -> int:
        return self.sizes["decoder"]["width"]

    @property
    def num_hidden_layers(self) -> int:
        return self.sizes["decoder"]["layers"]

    @property
    def num_attention_heads(self) -> int:
        return self.sizes["decoder"]["heads"]
