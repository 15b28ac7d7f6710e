"""What an export says of the released code: too little, and its user gets other numbers."""

import dataclasses
from pathlib import Path

import pytest

from qwenvl_jax.checkpoint import released_code
from qwenvl_jax.checkpoint.released_code import FILES, Vocabulary
from qwenvl_jax.model.config import ModelConfig

QWEN = Vocabulary(
    Path("x/qwen.tiktoken"), 151_860, eos=151_643, im_start=151_644, im_end=151_645, img=151_857
)


def changed(**parts) -> ModelConfig:
    """The released model with fields of its towers replaced."""
    base = ModelConfig.released()
    towers = {
        name: dataclasses.replace(getattr(base, name), **fields) for name, fields in parts.items()
    }
    return dataclasses.replace(base, **towers)


def test_the_released_model_has_no_limits():
    """Of stage 1 as well: the ViT resamples its positions, only vLLM counts by image size."""
    for size, notes in ((448, 0), (224, 1)):
        config = ModelConfig.released(size)
        assert released_code.limits(config, QWEN) == {}
        assert len(released_code.server_limits(config)) == notes
    narrow = changed(decoder=dict(layers=2), vit=dict(width=64, heads=4, mlp_width=315, layers=3))
    assert released_code.limits(narrow, QWEN) == {}


@pytest.mark.parametrize(
    "parts, key, told",
    [
        ({"adapter": dict(num_queries=64)}, "visual.n_queries", "IMG_TOKEN_SPAN to 64"),
        ({"vit": dict(position_grid=32)}, "visual.position_grid", "32 x 32 grid"),
        ({"adapter": dict(heads=16)}, "visual.adapter_heads", "width / 128 = 32"),
        ({"vit": dict(eps=1e-5)}, "visual.eps", "1e-05"),
        ({"adapter": dict(eps=1e-5)}, "visual.adapter_eps", "1e-05"),
        ({"decoder": dict(image_pad_id=151_850)}, "visual.image_start_id", "151848"),
        ({"decoder": dict(vocab_size=151_936 - 128, image_pad_id=9)}, "vocab_size", "151860 ids"),
    ],
)
def test_each_field_that_the_code_lacks_is_named(parts, key, told):
    found = released_code.limits(changed(**parts), QWEN)
    assert list(found) == [key]
    assert told in found[key]


def test_another_vocabulary_is_named():
    small = QWEN._replace(path=Path("x/any.model"))
    found = released_code.limits(ModelConfig.released(), small)
    assert list(found) == ["tokenizer_type"] and small.name == "tokenizer.model"


def test_the_span_of_the_code_that_is_copied_counts(tmp_path):
    """A user's copy may have been changed for 64 queries, or not yet."""
    for text, span in (
        ("IMG_TOKEN_SPAN = 64\n", 64), ("import x\nIMG_TOKEN_SPAN=256  # a\n", 256), ("x = 1", None)
    ):  # fmt: skip
        (tmp_path / "tokenization_qwen.py").write_text(text)
        assert released_code.span_of(tmp_path) == span
        found = released_code.limits(changed(adapter=dict(num_queries=64)), QWEN, span=span)
        assert list(found) == ([] if span == 64 else ["visual.n_queries"])
    assert "visual.n_queries" in released_code.limits(ModelConfig.released(), QWEN, span=64)


def test_code_that_is_not_whole_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--code=.*no such folder"):
        released_code.check_code(tmp_path / "none")
    for name in FILES[1:]:
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=r"--code=.*: configuration_qwen\.py missing"):
        released_code.check_code(tmp_path)


def test_generation_by_what_was_trained():
    """The released `chat` raises without these keys, and a base model would chat with them."""
    config = ModelConfig.released()
    chat = released_code.generation_config(config, QWEN, chat=True)
    assert (chat["chat_format"], chat["max_window_size"]) == ("chatml", 6144)
    assert chat["stop_words_ids"] == [[151_645], [151_644]] and chat["eos_token_id"] == 151_643
    base = released_code.generation_config(config, QWEN, chat=False)
    assert base["chat_format"] == "raw" and base["stop_words_ids"] == [[151_643]]
    assert "max_window_size" not in base
