"""What the released PyTorch code, and servers that follow it, need beside an export's weights."""

import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from qwenvl_jax.checkpoint import vocabulary
from qwenvl_jax.checkpoint.released_config import HEAD_WIDTH, POSITION_GRID, QUERIES, TOWER_EPS
from qwenvl_jax.model.config import ModelConfig

FILES = (
    "configuration_qwen.py",
    "modeling_qwen.py",
    "visual.py",
    "tokenization_qwen.py",
    "qwen_generation_utils.py",
)
MODEL_MAP = {
    "AutoConfig": "configuration_qwen.QWenConfig",
    "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel",
}
_SPAN = re.compile(r"^IMG_TOKEN_SPAN\s*=\s*(\d+)", re.MULTILINE)


class Vocabulary(NamedTuple):
    """The run's vocabulary: its file, and the ids that an export names."""

    path: Path
    size: int
    eos: int
    im_start: int
    im_end: int
    img: int

    @property
    def released(self) -> bool:
        """Whether it is of the released kind, `qwen.tiktoken`."""
        return self.path.suffix == ".tiktoken"

    @property
    def name(self) -> str:
        """What an export calls the file: by its kind, whatever the run called it."""
        return vocabulary.name(self.path)


def limits(config: ModelConfig, words: Vocabulary, *, span: int | None = QUERIES) -> dict[str, str]:
    """Key of the export's `config.json` -> why the released code does not run it as it is.

    Empty for a model of the released kind. The sizes of the towers may be any.

    Args:
      span: positions an image takes by the code's IMG_TOKEN_SPAN; None if it does not say.
    """
    vit, adapter = config.vit, config.adapter
    found: dict[str, str] = {}
    if adapter.num_queries != span:
        found["visual.n_queries"] = (
            f"{adapter.num_queries} positions an image; tokenization_qwen.py writes {span}: set its"
            f" IMG_TOKEN_SPAN to {adapter.num_queries}"
        )
    if vit.position_grid != POSITION_GRID:
        found["visual.position_grid"] = (
            f"positions of a {vit.position_grid} x {vit.position_grid} grid; visual.py has"
            f" {POSITION_GRID} x {POSITION_GRID}"
        )
    heads = max(1, config.decoder.width // HEAD_WIDTH)
    if adapter.heads != heads:
        found["visual.adapter_heads"] = f"{adapter.heads}; visual.py has width / 128 = {heads}"
    for key, eps in (("visual.eps", vit.eps), ("visual.adapter_eps", adapter.eps)):
        if eps != TOWER_EPS:
            found[key] = f"{eps}; visual.py has {TOWER_EPS}"
    if not words.released:
        found["tokenizer_type"] = (
            f"the vocabulary is {words.name}; tokenization_qwen.py reads qwen.tiktoken"
        )
    elif config.decoder.vocab_size < words.size:
        found["vocab_size"] = (
            f"{config.decoder.vocab_size} rows; qwen.tiktoken has {words.size} ids"
        )
    elif config.decoder.image_pad_id != words.img + 2:
        found["visual.image_start_id"] = (
            f"{config.decoder.image_pad_id - 2}; qwen.tiktoken has <img> at {words.img}"
        )
    return found


def server_limits(config: ModelConfig) -> list[str]:
    """What vLLM's Qwen-VL class takes for granted beyond the released code."""
    positions = (config.vit.image_size // config.vit.patch_size // 2) ** 2
    if positions == config.adapter.num_queries:
        return []
    return [
        f"vLLM counts (visual.image_size / visual.patch_size / 2)^2 = {positions} positions an"
        f" image, this model has {config.adapter.num_queries}"
    ]


def tokenizer_config(config: ModelConfig) -> dict[str, Any]:
    """`tokenizer_config.json`, by which `AutoTokenizer` finds the released class."""
    return {
        "auto_map": {"AutoTokenizer": ["tokenization_qwen.QWenTokenizer", None]},
        "model_max_length": 4 * config.decoder.train_length,
        "tokenizer_class": "QWenTokenizer",
    }


def generation_config(config: ModelConfig, words: Vocabulary, *, chat: bool) -> dict[str, Any]:
    """`generation_config.json`: of a model for dialogues (ChatML), or for text as it stands.

    The released code takes one end token; the others that end an answer are stop words.
    """
    shared = {
        "do_sample": False,
        "eos_token_id": words.eos,
        "max_new_tokens": 512,
        "pad_token_id": words.eos,
    }
    if not chat:
        return shared | {"chat_format": "raw", "stop_words_ids": [[words.eos]]}
    return shared | {
        "chat_format": "chatml",
        "max_window_size": 3 * config.decoder.train_length,  # as released: 6144 of 2048
        "stop_words_ids": [[words.im_end], [words.im_start]],
    }


def check_code(folder: Path) -> None:
    """Check that a folder holds the released code.

    Raises:
      ValueError: no folder, or a file that is missing; names it.
    """
    if not folder.is_dir():
        raise ValueError(f"--code={folder}: no such folder")
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"--code={folder}: {', '.join(missing)} missing; the released code is"
            f" {', '.join(FILES)}"
        )


def copy_code(source: Path, folder: Path) -> list[str]:
    """Copy every `.py` file of a checked folder; their names, sorted."""
    names = sorted(path.name for path in source.glob("*.py") if path.is_file())
    for name in names:
        shutil.copyfile(source / name, folder / name)
    return names


def span_of(folder: Path) -> int | None:
    """The positions an image takes by `tokenization_qwen.py`; None if the file does not say."""
    text = (folder / "tokenization_qwen.py").read_text("utf-8", "replace")
    hit = _SPAN.search(text)
    return int(hit[1]) if hit else None


def write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
