"""ChatML dialogues from messages, as pieces: text, or a special token's name.

<|im_start|>user
Picture 1: <img>..</img>
What is this?<|im_end|>
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .tokenization_qwenvl import SPELLINGS, TAGS

SYSTEM = "You are a helpful assistant."
PLACE = "<img></img>"  # stands for an image in a prompt's text
_TAG = re.compile("|".join(re.escape(SPELLINGS[name]) for name in TAGS))
_NAMES = {SPELLINGS[name]: name for name in TAGS}


class Special(NamedTuple):
    """A special token; `image` stands for <img>, Q x <imgpad> and </img>."""

    name: str


IMAGE = Special("image")
Piece = str | Special


def prompt_pieces(text: str) -> list[Piece]:
    """A plain prompt: `<img></img>` shows an image, tags of phrases and places count."""
    pieces: list[Piece] = []
    for i, part in enumerate(text.split(PLACE)):
        pieces += [IMAGE] if i else []
        pieces += _with_tags(part)
    return pieces


def dialogue_pieces(
    messages: Sequence[Mapping[str, Any]], *, ask: bool
) -> tuple[list[Piece], list[Any]]:
    """(pieces of a dialogue, its images in order).

    Args:
      messages: `role` (system, user, assistant) and `content`: a text, or parts
        `{"type": "text", "text": ..}` and `{"type": "image", "image": ..}`.
      ask: end with the head of the assistant's turn; the last message is then the user's.

    Raises:
      ValueError: roles out of turn, an image that the user does not show, or an unknown part.
    """
    turns = [(message.get("role"), message.get("content")) for message in messages]
    if not turns or turns[0][0] != "system":
        turns = [("system", SYSTEM), *turns]
    for i, (role, _) in enumerate(turns[1:]):
        expected = ("user", "assistant")[i % 2]
        if role != expected:
            raise ValueError(f"chat: message {i} is of {role!r}, expected is {expected!r}")
    if len(turns) == 1:
        raise ValueError("chat: nobody says anything")
    if ask and turns[-1][0] != "user":
        raise ValueError("chat: the last message is not the user's")
    pieces: list[Piece] = []
    images: list[Any] = []
    for role, content in turns:
        pieces += [Special("im_start"), role, "\n", *_said(role, content, images)]
        pieces += [Special("im_end"), "\n"]
    if ask:
        pieces += [Special("im_start"), "assistant", "\n"]
    return pieces, images


def _said(role: str, content: Any, images: list[Any]) -> list[Piece]:
    """A turn's pieces; its images are numbered over the dialogue and added to `images`."""
    pieces, text = [], ""
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        kind = part.get("type")
        if kind == "text":
            text += part["text"]
        elif kind == "image" and role == "user":
            source = next((part[key] for key in ("image", "path") if key in part), None)
            if source is None:
                raise ValueError(f"chat: an image's part has {sorted(part)}, wanted is 'image'")
            images.append(source)
            pieces += [*_with_tags(f"{text}Picture {len(images)}: "), IMAGE]
            text = "\n"
        elif kind == "image":
            raise ValueError(f"chat: an image in a turn of {role!r}; only the user shows images")
        else:
            raise ValueError(f"chat: a part of type {kind!r}; known are 'text' and 'image'")
    return [*pieces, *_with_tags(text)]


def _with_tags(text: str) -> Iterator[Piece]:
    end = 0
    for tag in _TAG.finditer(text):
        if tag.start() > end:
            yield text[end : tag.start()]
        yield Special(_NAMES[tag.group()])
        end = tag.end()
    if end < len(text):
        yield text[end:]
