"""The `own` layout: an export that carries its PyTorch code, for every model trained here.

config.json             sizes of the three towers as a run's config has them, auto_map
processor_config.json   image size, query count, vocabulary, auto_map
*.py                    the files of `torch/`, which are copied and never imported here
*.safetensors           tensors by their released names; adapters that the released model
                        lacks have names in the same spirit
"""

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qwenvl_jax import settings
from qwenvl_jax.checkpoint import convert, manifest, model_card, names, vocabulary
from qwenvl_jax.checkpoint.layouts import LINEAR
from qwenvl_jax.checkpoint.names import Row
from qwenvl_jax.checkpoint.stored import Stored
from qwenvl_jax.model.config import ModelConfig

CODE = Path(__file__).parent / "torch"
MODEL_TYPE = "qwenvl_jax"
_TOWERS = ("vit", "adapter", "decoder")
_POOLED = ("transformer.visual.attn_pool", "transformer.visual")
POOLING = (
    Row(f"{_POOLED[0]}.ln_kv.weight", "adapter/ln_kv/scale"),
    Row(f"{_POOLED[0]}.ln_kv.bias", "adapter/ln_kv/bias"),
    Row(f"{_POOLED[1]}.proj", "adapter/proj/kernel"),
)
MLP = (
    *POOLING[:2],
    Row(f"{_POOLED[0]}.kv_proj.weight", "adapter/kv_proj/kernel", LINEAR),
    POOLING[2],
)
_ADAPTERS = {"cross_attention": names.ADAPTER, "mlp": MLP, "pooling": POOLING}


def rows(config: ModelConfig) -> tuple[Row, ...]:
    """The table of tensor names for a model with any kind of adapter."""
    return names.VISION + _ADAPTERS[config.adapter.kind] + names.DECODER


def is_own(values: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is of this layout."""
    return values.get("model_type") == MODEL_TYPE


def model_config(values: Mapping[str, Any], **changes: Any) -> ModelConfig:
    """The model that a `config.json` of this layout describes.

    Args:
      changes: other fields of ModelConfig (dtype, remat, scan_layers).

    Raises:
      ValueError: sizes are missing or do not fit each other; names the key.
    """
    return settings.build(ModelConfig, {**values.get("sizes", {}), **changes}, "config.json: sizes")


def export(
    stored: Stored,
    folder: Path,
    *,
    tokenizer: Path,
    stop_ids: Sequence[int],
    dtype: str = "bfloat16",
    shard_bytes: int = 5 * 10**9,
) -> None:
    """Write weights, code, configs, vocabulary, model card and, last, the manifest.

    Args:
      tokenizer: the run's vocabulary file.
      stop_ids: at which generation ends; the first one pads prompts.

    Raises:
      ValueError: an unknown dtype, or a folder that is not empty.
    """
    convert.check_new(folder)
    config = stored.config
    digests = convert.save(
        stored.leaves(),
        folder,
        config=config,
        rows=rows(config),
        dtype=dtype,
        shard_bytes=shard_bytes,
    )
    words = vocabulary.name(tokenizer)
    for name, content in _configs(config, stop_ids, words, dtype).items():
        (folder / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    for path in sorted(CODE.glob("*.py")):
        shutil.copyfile(path, folder / path.name)
    shutil.copyfile(tokenizer, folder / words)
    (folder / "README.md").write_text(
        model_card.model_card(stored, dtype=dtype, loading=model_card.OWN), "utf-8"
    )
    manifest.write(folder, known=digests)


def _configs(
    config: ModelConfig, stop_ids: Sequence[int], vocabulary: str, dtype: str
) -> dict[str, dict[str, Any]]:
    """File name -> content."""
    return {
        "config.json": {
            "architectures": ["QwenVLForCausalLM"],
            "auto_map": {
                "AutoConfig": "configuration_qwenvl.QwenVLConfig",
                "AutoModelForCausalLM": "modeling_qwenvl.QwenVLForCausalLM",
            },
            "dtype": dtype,
            "model_type": MODEL_TYPE,
            "sizes": {tower: dataclasses.asdict(getattr(config, tower)) for tower in _TOWERS},
        },
        "generation_config.json": {
            "do_sample": False,
            "eos_token_id": list(stop_ids),
            "max_new_tokens": 512,
            "pad_token_id": stop_ids[0],
        },
        "processor_config.json": {
            "auto_map": {"AutoProcessor": "processing_qwenvl.QwenVLProcessor"},
            "image_size": config.vit.image_size,
            "num_queries": config.adapter.num_queries,
            "vocabulary": vocabulary,
        },
    }
