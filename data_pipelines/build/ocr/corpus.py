"""Pieces of a text file of any size."""

import mmap
import random
import re
from pathlib import Path
from typing import NamedTuple

# Scripts written without spaces break anywhere: each of their characters is a token.
_WIDE = "\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff00-\uffef"
_WIDE_LETTER = re.compile(f"[{_WIDE}]")
_TOKEN = re.compile(rf"(\s*)([{_WIDE}]|[^\s{_WIDE}]+)")
_READ = 4  # bytes of the file for every character wanted: more is never needed in UTF-8


class Token(NamedTuple):
    """What a line does not break within."""

    space: str  # " " where white space stands before it, else ""
    text: str


class Corpus:
    """A UTF-8 file, mapped into memory: size costs nothing.

    Raises:
      ValueError: the file is absent, empty or not UTF-8 at its start.
    """

    def __init__(self, path: str | Path):
        path = Path(path)
        if not path.is_file() or not path.stat().st_size:
            raise ValueError(f"text={path}: no such file, or it is empty")
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            # A cut in the last character is no fault of the file.
            self._bytes[: 1 << 16].decode("utf-8")
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data":
                raise ValueError(f"text={path}: not UTF-8: {error}") from error

    def start(self, characters: int) -> str:
        """The file's beginning, to see what is in it."""
        return self._decode(0, characters)

    def sample(self, rng: random.Random, characters: int) -> list[Token]:
        """Tokens of about so many characters from the beginning of a random line on.

        The file goes on at its start where it ends.
        """
        at = self._bytes.find(b"\n", rng.randrange(len(self._bytes))) + 1
        text = self._decode(at, characters)
        if len(text) < characters:
            text += "\n" + self._decode(0, characters - len(text))
        tokens: list[Token] = []
        for space, word in _TOKEN.findall(text):
            # Between letters of scripts without spaces a new line is no space.
            wide = tokens and _WIDE_LETTER.match(tokens[-1].text) and _WIDE_LETTER.match(word)
            tokens.append(Token(" " if space and not wide else "", word))
        return tokens

    def _decode(self, at: int, characters: int) -> str:
        data = self._bytes[at : at + _READ * characters]
        text = data.decode("utf-8", "ignore")[:characters]  # ignores a character cut at the end
        return "".join(c for c in text if c.isprintable() or c.isspace())
