"""CLIP's tokenizer: lower-cased byte pairs whose words end in `</w>`, from a file of merges.

Byte-pair merging itself is Sennrich et al. 2016 (arXiv 1508.07909). The vocabulary follows from the
merges alone: 256 bytes, 256 bytes that end a word, one entry a merge, then start and end.
"""

import functools
import gzip
import html
import json
from collections.abc import Sequence
from pathlib import Path

import ftfy
import numpy as np
import regex
from jaxtyping import Int32

# Where a directory of weights keeps the merges, in the order in which they are looked for.
FILES = ("tokenizer.json", "merges.txt", "bpe_simple_vocab_16e6.txt.gz")
_RELEASED = 48_894  # merges of the released vocabulary; its text file goes on with unused ones
_MAX_CHARACTERS = 1000  # of a text; a context of 77 is full long before
_WORD = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
_END = "</w>"


def _byte_letters() -> dict[int, str]:
    """The printable letter that stands for each byte in a file of merges, in vocabulary order."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in shown]
    return {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(hidden)}


class ClipTokenizer:
    """Texts -> rows of ids: start, text, end, zeros. The end token has the last id."""

    def __init__(self, merges: Sequence[tuple[str, str]]):
        letters = _byte_letters()
        self._letters = letters
        spelled = list(letters.values())
        entries = [*spelled, *(x + _END for x in spelled), *(a + b for a, b in merges)]
        self._ids = {entry: i for i, entry in enumerate(entries)}
        self._ranks = {pair: i for i, pair in enumerate(merges)}
        self.start, self.end = len(entries), len(entries) + 1
        self.vocab_size = len(entries) + 2
        self._word = functools.lru_cache(65_536)(self._merge)

    def __call__(self, texts: Sequence[str], *, length: int) -> Int32[np.ndarray, "B T"]:
        """Rows of `length` ids; what does not fit is cut, the end token stays."""
        ids_BT = np.zeros((len(texts), length), np.int32)
        for row, text in zip(ids_BT, texts):
            ids = self.encode(text)[: length - 2]
            row[: len(ids) + 2] = [self.start, *ids, self.end]
        return ids_BT

    def encode(self, text: str) -> list[int]:
        """Ids of the mended, lower-cased text; a spelled special token is text like any other."""
        text = ftfy.fix_text(text[:_MAX_CHARACTERS])
        text = html.unescape(html.unescape(text)).lower()
        return [i for word in _WORD.findall(text) for i in self._word(word)]

    def _merge(self, word: str) -> tuple[int, ...]:
        """Join the pair of lowest rank, wherever it stands, until no pair is known."""
        parts = [self._letters[byte] for byte in word.encode("utf-8", "replace")]
        parts[-1] += _END
        while len(parts) > 1:
            pairs = set(zip(parts, parts[1:]))
            best = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            joined, i = [], 0
            while i < len(parts):
                here = i + 1 < len(parts) and (parts[i], parts[i + 1]) == best
                joined.append(parts[i] + parts[i + 1] if here else parts[i])
                i += 2 if here else 1
            parts = joined
        return tuple(self._ids[part] for part in parts)


def load_clip_tokenizer(folder: str | Path, *, vocab_size: int) -> ClipTokenizer:
    """The tokenizer of a directory of weights: `tokenizer.json`, `merges.txt` or OpenCLIP's
    `bpe_simple_vocab_16e6.txt.gz`.

    Args:
      vocab_size: rows of the model's embedding.

    Raises:
      ValueError: no such file, a damaged one, or one of another size than the model's.
    """
    folder = Path(folder)
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        raise ValueError(f"CLIP tokenizer: {folder} holds none of {', '.join(FILES)}")
    try:
        tokenizer = ClipTokenizer(_read_merges(path))
    except (ValueError, KeyError, TypeError, OSError, EOFError, RecursionError) as error:
        raise ValueError(f"CLIP tokenizer {path}: no file of merges: {error!r}") from None
    if tokenizer.vocab_size != vocab_size:
        raise ValueError(
            f"CLIP tokenizer {path}: {tokenizer.vocab_size} entries, the model has {vocab_size}"
        )
    return tokenizer


def _read_merges(path: Path) -> list[tuple[str, str]]:
    if path.suffix == ".json":
        lines = json.loads(path.read_bytes())["model"]["merges"]  # "a b" or [a, b]
    elif path.suffix == ".gz":
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1 : _RELEASED + 1]
    else:
        lines = path.read_text("utf-8").strip("\n").split("\n")[1:]  # a version stands first
    merges = [tuple(line.split(" ") if isinstance(line, str) else line) for line in lines]
    wrong = [merge for merge in merges if len(merge) != 2]
    if wrong:
        raise ValueError(f"{wrong[0]} is no pair")
    return merges
