"""Captions -> words, for CIDEr and BLEU: close to the Penn Treebank tokeniser, without Java."""

import re

NORMALISER = "lower case, Treebank-like words without punctuation, every Chinese character a word"
_HAN = r"\u3400-\u9fff"
_CLITIC = r"n't|'(?:s|m|d|re|ve|ll)\b"
_NUMBER = r"\d+(?:[.,:]\d+)*"
_LETTERS = rf"[^\W\d_{_HAN}](?:[-/&']?[^\W_{_HAN}])*"
_WORD = re.compile(rf"[{_HAN}]|{_CLITIC}|{_NUMBER}|{_LETTERS}")
_GLUED = re.compile(rf"(?<=\w)({_CLITIC})")


def words(text: str) -> list[str]:
    """`It's a well-lit room.` -> `it 's a well-lit room`, as a list."""
    return _WORD.findall(_GLUED.sub(r" \1", text.lower()))
