"""The special tokens that every tokenizer here has, under the same names and spellings."""

import re
from collections.abc import Iterator
from typing import NamedTuple


class Specials(NamedTuple):
    """Ids of the special tokens; the field order is the order of `SPELLINGS`."""

    eos: int  # end of sample
    im_start: int
    im_end: int
    ref: int
    ref_end: int
    box: int
    box_end: int
    quad: int
    quad_end: int
    img: int
    img_end: int
    imgpad: int  # one of the Q places of an image


SPELLINGS = Specials(
    eos="<|endoftext|>",
    im_start="<|im_start|>",
    im_end="<|im_end|>",
    ref="<ref>",
    ref_end="</ref>",
    box="<box>",
    box_end="</box>",
    quad="<quad>",
    quad_end="</quad>",
    img="<img>",
    img_end="</img>",
    imgpad="<imgpad>",
)

_PATTERN = re.compile("|".join(map(re.escape, SPELLINGS)))


def split_specials(text: str) -> Iterator[tuple[str, bool]]:
    """Cut `text` into (piece, is a special token's spelling), in order, without empty pieces."""
    end = 0
    for hit in _PATTERN.finditer(text):
        if hit.start() > end:
            yield text[end : hit.start()], False
        yield hit.group(), True
        end = hit.end()
    if end < len(text):
        yield text[end:], False
