"""ChatML dialogues as spans: who speaks is plain text between special tokens, pictures are
numbered.

    <|im_start|>user
    Picture 1: <img>..</img>
    What is this?<|im_end|>

Labels are those of the released fine-tuning code: `<|im_start|>`, `<|im_end|>` and the newline
after it in every turn, and what the assistant says; never a role's name or a question. Of special
tokens, only the tags of phrases, boxes and quadrilaterals count in a turn's text, so that no text
can end its own turn.
"""

import re
from collections.abc import Iterator, Sequence

from qwenvl_jax.text.prompts import IMAGE, Span
from qwenvl_jax.text.specials import SPELLINGS, split_specials

SYSTEM = "You are a helpful assistant."
_PICTURE = re.compile(r"<img>(\d+)</img>")
_MARKUP = {SPELLINGS.ref, SPELLINGS.ref_end, SPELLINGS.box, SPELLINGS.box_end}
_MARKUP |= {SPELLINGS.quad, SPELLINGS.quad_end}
_START = Span(SPELLINGS.im_start, supervised=True, special=True)
_END = [Span(SPELLINGS.im_end, supervised=True, special=True), Span("\n", supervised=True)]


def chat_spans(turns: Sequence[tuple[str, str]], *, num_images: int) -> list[Span]:
    """Spans of a whole dialogue, for training; `prompts.encode_spans` makes ids of them.

    Args:
      turns: (role, text) of user and assistant in turn, after a system turn or none (SYSTEM then
        stands there). `<img>n</img>` in a user's text stands for image n, counted from 0.
      num_images: images of the dialogue; each is shown once, in order.

    Raises:
      ValueError: roles that do not alternate or end with the user, or images not shown in order.
    """
    spans = _turn_spans(turns, num_images)
    if turns[-1][0] != "assistant":
        raise ValueError("chat: the last turn is not the assistant's")
    return spans


def prompt_spans(turns: Sequence[tuple[str, str]], *, num_images: int) -> list[Span]:
    """Spans up to where the assistant is to speak: `chat_spans` with the user's turn last, and the
    head of the next. The answer ends at `<|im_end|>`.

    Raises:
      ValueError: as `chat_spans`, the assistant's turn being last.
    """
    spans = _turn_spans(turns, num_images)
    if turns[-1][0] != "user":
        raise ValueError("chat: the last turn is not the user's")
    return [*spans, *_head("assistant")]


def picture_lines(count: int, *, first: int = 0) -> str:
    """`Picture 1: <img>0</img>` and a newline, for `count` images from number `first` on: what a
    user's text starts with when it shows pictures.
    """
    return "".join(f"Picture {i + 1}: <img>{i}</img>\n" for i in range(first, first + count))


def _turn_spans(turns: Sequence[tuple[str, str]], num_images: int) -> list[Span]:
    roles = [role for role, _ in turns]
    if roles[:1] != ["system"]:
        turns, roles = [("system", SYSTEM), *turns], ["system", *roles]
    for i, role in enumerate(roles[1:]):
        expected = ("user", "assistant")[i % 2]
        if role != expected:
            raise ValueError(f"chat: turn {i + 1} is of {role!r}, expected {expected!r}")
    if len(turns) == 1:
        raise ValueError("chat: nobody says anything")
    shown = [
        (role, int(number)) for role, text in turns for number in _PICTURE.findall(text)
    ]  # fmt: skip
    if [number for _, number in shown] != list(range(num_images)):
        raise ValueError(f"chat: shows images {[n for _, n in shown]}, there are {num_images}")
    if any(role != "user" for role, _ in shown):
        raise ValueError("chat: only the user may show images")
    spans: list[Span] = []
    for role, text in turns:
        spans += [*_head(role), *_said(text, role == "assistant"), *_END]
    return spans


def _head(role: str) -> list[Span]:
    return [_START, Span(role, False), Span("\n", False)]


def _said(text: str, supervised: bool) -> Iterator[Span]:
    """A turn's text: pictures and tags become spans, what is between them stays whole."""
    for i, part in enumerate(_PICTURE.split(text)):
        if i % 2:  # the number that the pattern caught
            yield IMAGE
            continue
        plain = ""
        for piece, is_special in split_specials(part):
            if is_special and piece in _MARKUP:
                if plain:
                    yield Span(plain, supervised)
                yield Span(piece, supervised, special=True)
                plain = ""
            else:
                plain += piece
        if plain:
            yield Span(plain, supervised)
