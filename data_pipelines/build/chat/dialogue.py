"""One entry of a fine-tuning file, as the released code reads it, checked and taken apart.

{"id": "a1", "conversations": [
  {"from": "user", "value": "Picture 1: <img>dogs/1.jpg</img>\nWhere is the dog?"},
  {"from": "assistant", "value": "<ref>The dog</ref><box>(12,34),(567,890)</box>"}]}
"""

import re
from typing import Any, NamedTuple

from data_pipelines.build.chat import like_released
from data_pipelines.build.chat.forms import read_form
from data_pipelines.build.convert.entry import EntryError
from data_pipelines.schema import Turn
from data_pipelines.stream.cut import whole_images
from qwenvl_jax.text import chatml, prompts
from qwenvl_jax.text.markup import parse_marked, parse_points
from qwenvl_jax.text.tokenizer import Tokenizer

_IMAGE = re.compile(r"<img>(.*?)</img>")
BESIDE = "pictures_beside_text"
_PLACE = re.compile(r"<(box|quad)>(.*?)</\1>")


class Dialogue(NamedTuple):
    """Turns in which `<img>n</img>` stands for the n-th of `paths`."""

    turns: tuple[Turn, ...]
    paths: tuple[str, ...]
    changes: tuple[str, ...] = ()  # what was done to the entry, for counting


def read_dialogue(item: Any, *, mend: bool = False) -> Dialogue:
    """Check an entry of any form and number its pictures.

    Args:
      mend: drop what the released code would not learn from, instead of refusing the entry.

    Raises:
      EntryError: with a reason: a field that is missing or of another type (bad_NAME), bad_utf8,
        picture_not_in_text, bad_roles, empty_answer, no_answer, unbalanced_tags, bad_box (outside
        [0, 1000), or x1 > x2 or y1 > y2).
    """
    plain = read_form(item)
    said, changes = plain.turns, [BESIDE] if plain.beside else []
    if mend:
        said, done = like_released.mend(said)
        changes += done
    paths: list[str] = []

    def number(hit: re.Match) -> str:
        paths.append(hit[1].strip())
        return f"<img>{len(paths) - 1}</img>"

    turns = []
    for role, text in said:
        if any(0xD800 <= ord(c) <= 0xDFFF for c in text):
            raise EntryError("bad_utf8")  # half a character, which JSON can spell
        _check_markup(_IMAGE.sub("", text))
        if role == "assistant" and not text.strip():
            raise EntryError("empty_answer") from ValueError(
                f"an answer without text; {like_released.OPTION} skips it"
            )
        turns.append(Turn(role, _IMAGE.sub(number, text)))
    try:
        chatml.chat_spans(turns, num_images=len(paths))
    except ValueError as error:
        mendable = said and (said[0][0] == "assistant" or said[-1][0] == "user")
        hint = f"; {like_released.OPTION} drops that turn" if mendable and not mend else ""
        raise EntryError("bad_roles") from ValueError(f"{error}{hint}")
    return Dialogue(tuple(turns), tuple(paths), tuple(changes))


def check_size(
    dialogue: Dialogue,
    tokenizer: Tokenizer,
    *,
    num_queries: int,
    seq_len: int,
    image_slots: int,
    cut: bool = False,
) -> bool:
    """Whether the dialogue has to be cut to fit a row.

    Raises:
      EntryError: too_many_images; too_long where it may not be `cut`, or the row would end within
        an image.
    """
    if len(dialogue.paths) > image_slots:
        shown = f"{len(dialogue.paths)} pictures, --image_slots={image_slots}"
        raise EntryError("too_many_images") from ValueError(shown)
    spans = chatml.chat_spans(dialogue.turns, num_images=len(dialogue.paths))
    tokens, _ = prompts.encode_spans(spans, tokenizer, num_queries=num_queries)
    if len(tokens) <= seq_len:
        return False
    shown = f"{len(tokens)} tokens, --seq_len={seq_len}"
    if not cut:
        raise EntryError("too_long") from ValueError(f"{shown}; {like_released.OPTION} cuts it")
    pad = tokenizer.specials.imgpad
    if whole_images(tokens, seq_len, imgpad=pad, num_queries=num_queries) is None:
        raise EntryError("too_long") from ValueError(f"{shown}; the row would end within an image")
    return True


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
