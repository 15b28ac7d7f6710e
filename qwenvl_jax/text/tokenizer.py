"""Text to ids and back: the Qwen BPE of the released model, and a small SentencePiece vocabulary.

Both are one interface, `Tokenizer`, with the same special tokens. Text that merely spells a special
token never becomes one unless the caller asks for `special=True`, which is for text that this code
wrote itself.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from qwenvl_jax.git_lfs import refuse_pointer
from qwenvl_jax.text.qwen_bpe import QwenTokenizer, installed_ranks
from qwenvl_jax.text.sentence_piece import SentencePieceTokenizer
from qwenvl_jax.text.specials import Specials


@runtime_checkable  # so that annotations can be checked in tests
class Tokenizer(Protocol):
    """What every tokenizer offers. Pickles as its path, so that data workers may carry one."""

    path: str
    vocab_size: int  # ids run over [0, vocab_size)
    padded_vocab_size: int  # rounded up to a multiple of 128: rows of the embedding
    specials: Specials

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of the NFC-normalised text; `special=True` lets spelled special tokens count."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, special tokens spelled out; broken UTF-8 and padding ids become U+FFFD."""


def load_tokenizer(path: str | Path | None = None) -> Tokenizer:
    """Load a tokenizer by the ending of its file's name.

    Args:
      path: `*.tiktoken` for the Qwen BPE, `*.model` for SentencePiece; None finds `qwen.tiktoken`
        in the installed `dashscope` package (without importing that package).

    Raises:
      FileNotFoundError: no such file, or no installed package that holds one.
      ValueError: the file is truncated, altered, a Git LFS pointer or of no known kind; the
        message names it.
    """
    path = installed_ranks() if path is None else Path(path)
    if path.suffix not in (".tiktoken", ".model"):
        raise ValueError(f"tokenizer {path}: expected a *.tiktoken or a *.model file")
    if not path.is_file():
        raise FileNotFoundError(f"tokenizer {path}: no such file")
    refuse_pointer(path)
    return QwenTokenizer(path) if path.suffix == ".tiktoken" else SentencePieceTokenizer(path)
