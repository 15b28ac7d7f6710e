"""The byte-pair encoding of Qwen, from its `qwen.tiktoken` ranks."""

import base64
import binascii
import functools
import hashlib
import importlib.util
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import tiktoken

from qwenvl_jax.text.specials import SPELLINGS, Specials

RANKS = 151_643  # entries of the file; the special tokens follow
BYTES = 2_561_218
SHA256 = "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_NAMES = (
    [SPELLINGS.eos, SPELLINGS.im_start, SPELLINGS.im_end]
    + [f"<|extra_{i}|>" for i in range(205)]
    + list(SPELLINGS[3:])
)


def installed_ranks() -> Path:
    """Where the installed `dashscope` package keeps `qwen.tiktoken`.

    Raises:
      FileNotFoundError: the package, or the file in it, is missing.
    """
    # find_spec of a top-level name runs none of the package's code.
    spec = importlib.util.find_spec("dashscope")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "resources" / "qwen.tiktoken"
        if path.is_file():
            return path
    raise FileNotFoundError(
        "no tokenizer path was given and no installed `dashscope` package holds "
        "resources/qwen.tiktoken; install dashscope==2.0.2 or give the path of a qwen.tiktoken"
    )


def read_ranks(path: Path) -> dict[bytes, int]:
    """Read and check the ranks: {token bytes: rank}.

    Raises:
      ValueError: the file is not the released one; the message names it and says in what it
        differs.
    """
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256:
        state = "truncated" if len(data) < BYTES else "altered"
        raise ValueError(
            f"tokenizer {path}: {state}: {len(data)} bytes with sha256 {digest}, "
            f"the released qwen.tiktoken has {BYTES} bytes with sha256 {SHA256}"
        )
    try:
        rows = [line.split() for line in data.splitlines() if line]
        ranks = {base64.b64decode(token): int(rank) for token, rank in rows}
    except (ValueError, binascii.Error) as error:
        raise ValueError(f"tokenizer {path}: not a file of BPE ranks: {error}") from error
    if len(ranks) != RANKS:
        raise ValueError(f"tokenizer {path}: {len(ranks)} entries, the released file has {RANKS}")
    return ranks


class QwenTokenizer:
    """Qwen BPE with 151,860 used ids; see `tokenizer.Tokenizer`."""

    def __init__(self, path: str | Path):
        self.path = str(path)
        ranks = read_ranks(Path(path))
        extra = {name: RANKS + i for i, name in enumerate(_NAMES)}
        self._bpe = tiktoken.Encoding(
            "qwen", pat_str=_SPLIT, mergeable_ranks=ranks, special_tokens=extra
        )
        self.specials = Specials(*(extra[name] for name in SPELLINGS))
        self._encode = functools.lru_cache(256)(self._encode_new)  # prompts come again and again
        self.vocab_size = RANKS + len(extra)
        self.padded_vocab_size = -(-self.vocab_size // 128) * 128

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        return list(self._encode(text, special))

    def _encode_new(self, text: str, special: bool) -> list[int]:
        text = unicodedata.normalize("NFC", text)
        if special:
            return self._bpe.encode(text, allowed_special="all")
        return self._bpe.encode_ordinary(text)

    def decode(self, ids: Sequence[int]) -> str:
        parts = [
            self._bpe.decode_single_token_bytes(int(i))
            if 0 <= i < self.vocab_size
            else "\N{REPLACEMENT CHARACTER}".encode()
            for i in ids
        ]
        return b"".join(parts).decode("utf-8", errors="replace")

    def __reduce__(self):
        return QwenTokenizer, (self.path,)
