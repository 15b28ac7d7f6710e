"""A small vocabulary for demos and ablations: SentencePiece with the special tokens of Qwen-VL."""

import functools
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from qwenvl_jax.text.specials import SPELLINGS, Specials, split_specials


class SentencePieceTokenizer:
    """SentencePiece under the interface of `tokenizer.Tokenizer`.

    The special tokens are control symbols, which SentencePiece never produces from text, so text
    cannot forge one; `special=True` cuts their spellings out before the pieces are made.
    """

    def __init__(self, path: str | Path):
        self.path = str(path)
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=Path(path).read_bytes())
        except RuntimeError as error:
            raise ValueError(
                f"tokenizer {path}: truncated or not a SentencePiece model: {error}"
            ) from error
        ids = [self._pieces.piece_to_id(name) for name in SPELLINGS]
        for name, i in zip(SPELLINGS, ids, strict=True):
            if not self._pieces.is_control(i):
                raise ValueError(f"tokenizer {path}: lacks the control symbol {name}")
        self.specials = Specials(*ids)
        self._spelling = dict(zip(ids, SPELLINGS, strict=True))
        self._encode = functools.lru_cache(256)(self._encode_new)  # prompts come again and again
        self.vocab_size = self._pieces.vocab_size()
        self.padded_vocab_size = -(-self.vocab_size // 128) * 128

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        return list(self._encode(text, special))

    def _encode_new(self, text: str, special: bool) -> list[int]:
        text = unicodedata.normalize("NFC", text)
        if not special:
            return self._pieces.encode(text)
        ids: list[int] = []
        for piece, is_special in split_specials(text):
            ids += [self._pieces.piece_to_id(piece)] if is_special else self._pieces.encode(piece)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        texts: list[str] = []
        # The bytes of one character may be several ids: decode runs, not single ids.
        run: list[int] = []
        for i in map(int, ids):
            if i in self._spelling or not 0 <= i < self.vocab_size:
                texts += [
                    self._pieces.decode(run),
                    self._spelling.get(i, "\N{REPLACEMENT CHARACTER}"),
                ]
                run = []
            else:
                run.append(i)
        return "".join([*texts, self._pieces.decode(run)])

    def __reduce__(self):
        return SentencePieceTokenizer, (self.path,)


def train_sentencepiece(
    texts: Iterable[str], path: str | Path, vocab_size: int, *, delimiter: str = ""
) -> None:
    """Train a BPE SentencePiece model on `texts` and write it to `path`.

    Nothing is normalised beyond NFC, spaces are kept as they are, and characters outside the
    training texts fall back to bytes, so any text encodes and decodes to itself (except U+2581,
    SentencePiece's own sign for a space).

    Args:
      vocab_size: number of ids in all, the 12 special tokens and 256 bytes among them; a soft
        limit: texts too plain to fill it give fewer.
      delimiter: a character that marks, in `texts`, places no piece may cross; it is not learnt.

    Raises:
      ValueError: `vocab_size` leaves no room for the texts' characters.
    """
    path = Path(path)
    try:
        with path.open("wb") as out:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=(unicodedata.normalize("NFC", text) for text in texts),
                model_writer=out,
                model_type="bpe",
                vocab_size=vocab_size,
                hard_vocab_limit=False,
                control_symbols=list(SPELLINGS),
                # Always its own piece, so that the start of a line is the start of a word.
                user_defined_symbols=["\n"],
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                byte_fallback=True,
                character_coverage=1.0,
                normalization_rule_name="identity",
                add_dummy_prefix=False,
                remove_extra_whitespaces=False,
                split_digits=True,
                pretokenization_delimiter=delimiter,
                num_threads=1,  # the same model on every machine
                minloglevel=2,
            )
    except RuntimeError as error:
        path.unlink(missing_ok=True)
        raise ValueError(f"tokenizer {path}: vocab_size {vocab_size}: {error}") from error
