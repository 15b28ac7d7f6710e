"""One entry of a fine-tuning file, as the released code reads it, checked and taken apart.

{"id": "a1", "conversations": [
  {"from": "user", "value": "Picture 1: <img>dogs/1.jpg</img>\nWhere is the dog?"},
  {"from": "assistant", "value": "<ref>The dog</ref><box>(12,34),(567,890)</box>"}]}
"""

import re
from typing import Any, NamedTuple

from data_pipelines.build.convert.entry import EntryError, field
from data_pipelines.schema import Turn
from qwenvl_jax.text import chatml, prompts
from qwenvl_jax.text.markup import parse_marked, parse_points
from qwenvl_jax.text.tokenizer import Tokenizer

_IMAGE = re.compile(r"<img>(.*?)</img>")
_PLACE = re.compile(r"<(box|quad)>(.*?)</\1>")


class Dialogue(NamedTuple):
    """Turns in which `<img>n</img>` stands for the n-th of `paths`."""

    turns: tuple[Turn, ...]
    paths: tuple[str, ...]


def read_dialogue(item: Any) -> Dialogue:
    """Check an entry and number its pictures.

    Raises:
      EntryError: with a reason: a field that is missing or of another type (bad_NAME), bad_utf8,
        bad_roles, empty_answer, unbalanced_tags, bad_box (outside [0, 1000), or x1 > x2 or y1 >
        y2).
    """
    paths: list[str] = []

    def number(hit: re.Match) -> str:
        paths.append(hit[1].strip())
        return f"<img>{len(paths) - 1}</img>"

    turns = []
    for turn in field(item, "conversations", list):
        role, text = field(turn, "from", str), field(turn, "value", str)
        if any(0xD800 <= ord(c) <= 0xDFFF for c in text):
            raise EntryError("bad_utf8")  # half a character, which JSON can spell
        _check_markup(_IMAGE.sub("", text))
        if role == "assistant" and not text.strip():
            raise EntryError("empty_answer")
        turns.append(Turn(role, _IMAGE.sub(number, text)))
    try:
        chatml.chat_spans(turns, num_images=len(paths))
    except ValueError as error:
        raise EntryError("bad_roles") from error
    return Dialogue(tuple(turns), tuple(paths))


def check_size(
    dialogue: Dialogue, tokenizer: Tokenizer, *, num_queries: int, seq_len: int, image_slots: int
) -> None:
    """Raises EntryError where the dialogue does not fit a row: too_long, too_many_images."""
    if len(dialogue.paths) > image_slots:
        shown = f"{len(dialogue.paths)} pictures, --image_slots={image_slots}"
        raise EntryError("too_many_images") from ValueError(shown)
    spans = chatml.chat_spans(dialogue.turns, num_images=len(dialogue.paths))
    tokens, _ = prompts.encode_spans(spans, tokenizer, num_queries=num_queries)
    if len(tokens) > seq_len:
        raise EntryError("too_long") from ValueError(f"{len(tokens)} tokens, --seq_len={seq_len}")


def _check_markup(text: str) -> None:
    if "<img>" in text or "</img>" in text:
        raise EntryError("unbalanced_tags")
    for name, inner in _PLACE.findall(text):
        try:
            points = parse_points(inner, count=2 if name == "box" else 4)
        except ValueError as error:
            raise EntryError("bad_box") from error
        if name == "box" and (points[0] > points[2] or points[1] > points[3]):
            raise EntryError("bad_box") from ValueError(f"box {inner}: x1 > x2 or y1 > y2")
    try:
        parse_marked(text)
    except ValueError as error:
        raise EntryError("unbalanced_tags") from error
