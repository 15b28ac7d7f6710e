"""ChatML as spans, for dialogues that go on.

<|im_start|>user
Picture 1: <img>..</img>
What is this?<|im_end|>
<|im_start|>assistant
"""

import re
from collections.abc import Iterable

from qwenvl_jax.text.markup import parse_marked
from qwenvl_jax.text.prompts import IMAGE, Span
from qwenvl_jax.text.specials import SPELLINGS

SYSTEM = "You are a helpful assistant."
CLOSING = [Span(SPELLINGS.im_end, False, True), Span("\n", False)]
_TAG = re.compile(r"(</?(?:ref|box|quad)>)")
_IMAGE = re.compile(r"<img>.*?</img>", re.DOTALL)


def opening(role: str) -> list[Span]:
    """A turn's beginning, up to its text."""
    return [Span(SPELLINGS.im_start, False, True), Span(f"{role}\n", False)]


def marked_spans(text: str) -> list[Span]:
    """Text that may point at places in the model's own way; tags that do not fit are plain text."""
    try:
        parse_marked(text)
    except ValueError:
        return [Span(text, False)]
    parts = [part for part in _TAG.split(text) if part]
    return [Span(part, False, special=bool(_TAG.fullmatch(part))) for part in parts]


def dialogue_prompt(turns: Iterable[tuple[str, str]]) -> list[Span]:
    """(role, text) of every turn -> what the assistant's next answer follows.

    Each `<img>..</img>` of a text becomes a picture; a system turn is put first where there is
    none.
    """
    turns = list(turns)
    if not turns or turns[0][0] != "system":
        turns = [("system", SYSTEM), *turns]
    spans: list[Span] = []
    for role, text in turns:
        spans += opening(role)
        for index, part in enumerate(_IMAGE.split(text)):
            spans += [IMAGE] * (index > 0) + marked_spans(part)
        spans += CLOSING
    return [*spans, *opening("assistant")]
