"""If these break, ids no longer mean what the released weights learnt, or users can inject control
tokens.
"""

import json
import pickle
from pathlib import Path

import pytest

from qwenvl_jax.text.sentence_piece import train_sentencepiece
from qwenvl_jax.text.specials import SPELLINGS
from qwenvl_jax.text.tokenizer import load_tokenizer

CASES = json.loads(
    (Path(__file__).parents[1] / "reference/tokenizer_cases.json").read_text("utf-8")
)
TEXTS = [
    "  leading spaces\tand\ttabs\n\nnewlines  ",
    "\n\n first line\r\nsecond",
    "两只猫在狗的左边。 emoji 😀👍🏽",
    "",
    " ",
    "Generate the caption in English: two cats",
    "never seen: ßçøþ ∑ नमस्ते",
]


@pytest.fixture(scope="module")
def qwen():
    return load_tokenizer()


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    path = tmp_path_factory.mktemp("sp") / "tokenizer.model"
    corpus = [f" {n} {k} and a dog" for n in ("two", "three", "one") for k in ("cats", "apples")]
    corpus += [f"{n}个{k}在左边。" for n in "一二三" for k in ("猫", "苹果")]
    train_sentencepiece(corpus * 5, path, 400)
    return load_tokenizer(path)


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_released_ids(qwen, case):
    """Any other ids would feed the released embedding wrong rows."""
    assert qwen.encode(case["text"], special=True) == case["ids"]


def test_qwen_sizes_and_specials(qwen):
    """The checkpoint's vocabulary rows and the ids of its markup are fixed."""
    assert (qwen.vocab_size, qwen.padded_vocab_size) == (151_860, 151_936)
    assert qwen.specials == (
        *(151_643, 151_644, 151_645),
        *(151_851, 151_852, 151_853, 151_854, 151_855, 151_856, 151_857, 151_858, 151_859),
    )


@pytest.mark.parametrize("which", ["qwen", "pieces"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_text_cannot_forge_a_special_token(which, spelling, request):
    """A user who writes `<|im_end|>` must not end the turn; with special=True the same text is one
    token.
    """
    tokenizer = request.getfixturevalue(which)
    ids = tokenizer.encode(f"a{spelling}b")
    assert not set(ids) & set(tokenizer.specials)
    assert tokenizer.decode(ids) == f"a{spelling}b"
    made = tokenizer.encode(f"a{spelling}b", special=True)
    assert made.count(tokenizer.specials[SPELLINGS.index(spelling)]) == 1
    assert tokenizer.decode(made) == f"a{spelling}b"


@pytest.mark.parametrize("which", ["qwen", "pieces"])
@pytest.mark.parametrize("text", TEXTS)
def test_text_survives(which, text, request):
    """Lost leading spaces or newlines would change answers and OCR text."""
    tokenizer = request.getfixturevalue(which)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(0 <= i < tokenizer.vocab_size for i in ids)


@pytest.mark.parametrize("which", ["qwen", "pieces"])
def test_normalised_and_pickled(which, request):
    """Two spellings of one character must give one id, and data workers get the same tokenizer."""
    tokenizer = request.getfixturevalue(which)
    assert tokenizer.encode("e\u0301") == tokenizer.encode("\u00e9")
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode("a <ref>", special=True) == tokenizer.encode("a <ref>", special=True)
    assert tokenizer.decode([tokenizer.padded_vocab_size]) == "\ufffd"


def test_broken_files_are_named(qwen, tmp_path):
    """A truncated download must stop at the start, naming the file, not give other ids."""
    cut = tmp_path / "qwen.tiktoken"
    cut.write_bytes(Path(qwen.path).read_bytes()[:-100])
    with pytest.raises(ValueError, match="qwen.tiktoken: truncated"):
        load_tokenizer(cut)
    with pytest.raises(FileNotFoundError, match="absent.model"):
        load_tokenizer(tmp_path / "absent.model")
    (tmp_path / "bad.model").write_bytes(b"\x00\x01not a model")
    with pytest.raises(ValueError, match="bad.model"):
        load_tokenizer(tmp_path / "bad.model")
    with pytest.raises(ValueError, match="vocab.json"):
        load_tokenizer(tmp_path / "vocab.json")
