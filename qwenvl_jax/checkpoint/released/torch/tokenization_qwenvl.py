"""Text to ids and back: Qwen's byte pairs (`qwen.tiktoken`) or SentencePiece (`tokenizer.model`).

Text that merely spells a special token never becomes one. Special tokens come from the processor,
by their ids.
"""

import base64
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

SPELLINGS = {
    "eos": "<|endoftext|>",
    "im_start": "<|im_start|>",
    "im_end": "<|im_end|>",
    "ref": "<ref>",
    "ref_end": "</ref>",
    "box": "<box>",
    "box_end": "</box>",
    "quad": "<quad>",
    "quad_end": "</quad>",
    "img": "<img>",
    "img_end": "</img>",
    "imgpad": "<imgpad>",
}
TAGS = ("ref", "ref_end", "box", "box_end", "quad", "quad_end")  # markup of phrases and places
_RANKS = 151_643
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"


class QwenVLTokenizer:
    """Either vocabulary. `ids` holds the special tokens by name, as in SPELLINGS."""

    def __init__(self, path: str | Path):
        """Read a vocabulary file.

        Raises:
          ValueError: the file is damaged or of another kind; names it.
        """
        self.path = Path(path)
        kinds = {".tiktoken": _BytePairs, ".model": _Pieces}
        if self.path.suffix not in kinds:
            raise ValueError(f"vocabulary {path}: expected *.tiktoken or *.model")
        self._vocabulary = kinds[self.path.suffix](self.path)
        self.ids = SimpleNamespace(**self._vocabulary.specials)
        self._spelling = {i: SPELLINGS[name] for name, i in self._vocabulary.specials.items()}
        tags = {getattr(self.ids, name) for name in TAGS}
        self._silent = set(self._spelling) - tags
        self.vocab_size = self._vocabulary.size
        self.eos_token_id = self.pad_token_id = self.ids.eos

    def __len__(self) -> int:
        return self.vocab_size

    def encode(self, text: str) -> list[int]:
        """Ids of the NFC-normalised text; spelled special tokens are text."""
        return self._vocabulary.encode(unicodedata.normalize("NFC", text))

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of ids (a list or a tensor of one dim), special tokens spelled out.

        Args:
          skip_special_tokens: leave special tokens out, but for the tags of phrases and places.
        """
        texts, run = [], []
        for i in map(int, ids):
            if i in self._spelling or not 0 <= i < self.vocab_size:
                texts.append(self._vocabulary.decode(run))
                if not (skip_special_tokens and i in self._silent):
                    texts.append(self._spelling.get(i, _UNKNOWN))
                run = []
            else:
                run.append(i)
        return "".join([*texts, self._vocabulary.decode(run)])

    def batch_decode(self, rows: Sequence, skip_special_tokens: bool = False) -> list[str]:
        """`decode` of every row."""
        return [self.decode(row, skip_special_tokens) for row in rows]


class _BytePairs:
    def __init__(self, path: Path):
        try:
            import tiktoken
        except ImportError as error:
            raise ValueError(f"vocabulary {path}: needs `pip install tiktoken`") from error
        try:
            rows = [line.split() for line in path.read_bytes().splitlines() if line]
            ranks = {base64.b64decode(token): int(rank) for token, rank in rows}
        except ValueError as error:
            raise ValueError(f"vocabulary {path}: no file of byte-pair ranks: {error}") from error
        if len(ranks) != _RANKS:
            raise ValueError(f"vocabulary {path}: {len(ranks)} entries instead of {_RANKS}")
        first, last = list(SPELLINGS.values())[:3], list(SPELLINGS.values())[3:]
        names = [*first, *(f"<|extra_{i}|>" for i in range(205)), *last]
        extra = {name: _RANKS + i for i, name in enumerate(names)}
        self.specials = {name: extra[spelled] for name, spelled in SPELLINGS.items()}
        self.size = _RANKS + len(extra)
        self._bpe = tiktoken.Encoding(
            "qwen", pat_str=_SPLIT, mergeable_ranks=ranks, special_tokens=extra
        )

    def encode(self, text: str) -> list[int]:
        return self._bpe.encode_ordinary(text)

    def decode(self, ids: list[int]) -> str:
        return self._bpe.decode(ids, errors="replace")


class _Pieces:
    def __init__(self, path: Path):
        try:
            import sentencepiece
        except ImportError as error:
            raise ValueError(f"vocabulary {path}: needs `pip install sentencepiece`") from error
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
        except RuntimeError as error:
            raise ValueError(f"vocabulary {path}: no SentencePiece model: {error}") from error
        self.specials = {name: self._pieces.piece_to_id(s) for name, s in SPELLINGS.items()}
        for name, i in self.specials.items():
            if not self._pieces.is_control(i):
                raise ValueError(f"vocabulary {path}: lacks the control symbol {SPELLINGS[name]}")
        self.size = self._pieces.vocab_size()

    def encode(self, text: str) -> list[int]:
        return self._pieces.encode(text)

    def decode(self, ids: list[int]) -> str:
        return self._pieces.decode(ids)
