"""The forms in which people keep fine-tuning entries, as one: roles, and texts with their pictures.

| form | turns | pictures |
|---|---|---|
| Qwen-VL | `conversations`: `from`, `value` | `<img>path</img>` in the text |
| LLaVA, ShareGPT | the same, roles `human` and `gpt` | `<image>`; `image` or `images` beside |
| ms-swift, OpenAI | `messages`: `role`, `content` (a text or parts) | the same, or a part |
| ms-swift, older | `history`, `query`, `response` | `<image>`; `images` beside |
"""

import re
from typing import Any, NamedTuple

from data_pipelines.build.convert.entry import EntryError, field

_ROLES = {"human": "user", "gpt": "assistant"}
_IMG = re.compile(r"<img>(.*?)</img>")
_PLACE = re.compile(r"<image>\n?")
# What would be left out in silence, or trained as text: the entry means more than it says.
_OTHER = ("video", "videos", "audio", "audios", "objects")


class Plain(NamedTuple):
    """Turns in the Qwen-VL form, and whether their pictures stood beside the text."""

    turns: list[tuple[str, str]]  # (role, text with `<img>path</img>`)
    beside: bool


def read_form(item: Any) -> Plain:
    """An entry of any form.

    Raises:
      EntryError: a field is missing or of another type (bad_NAME); picture_not_in_text: pictures
        beside the text and the places in it do not match.
    """
    if not isinstance(item, dict):
        raise EntryError("bad_entry")
    for name in _OTHER:
        if item.get(name):
            raise EntryError(f"bad_{name}") from ValueError(f"{name!r} has no meaning here")
    turns = [(_ROLES.get(role, role), text) for role, text in _turns(item)]
    if item.get("system"):
        if turns and turns[0][0] == "system":
            raise EntryError("bad_system") from ValueError("the entry has two system texts")
        turns.insert(0, ("system", field(item, "system", str)))
    paths = [path for name in ("image", "images") for path in _paths(item, name)]
    return _placed(turns, paths)


def _turns(item: dict) -> list[tuple[str, str]]:
    if "messages" in item and "conversations" not in item:
        return [
            (field(turn, "role", str), _content(turn)) for turn in field(item, "messages", list)
        ]
    if "query" in item and "conversations" not in item:
        pairs = field(item, "history", list) if item.get("history") else []
        if not all(isinstance(p, list) and [type(x) for x in p] == [str, str] for p in pairs):
            raise EntryError("bad_history")
        pairs = [*pairs, [field(item, "query", str), field(item, "response", str)]]
        return [turn for q, a in pairs for turn in (("user", q), ("assistant", a))]
    return [
        (field(turn, "from", str), field(turn, "value", str))
        for turn in field(item, "conversations", list)
    ]


def _content(turn: dict) -> str:
    """A message's text; a part that is a picture stands in it as in the Qwen-VL form."""
    content = field(turn, "content", (str, list))
    if isinstance(content, str):
        return content
    texts = []
    for part in content:
        kind = field(part, "type", str)
        if kind == "text":
            texts.append(field(part, "text", str))
        elif kind == "image":
            texts.append(f"<img>{_path(part.get('image', part.get('path')))}</img>\n")
        else:
            raise EntryError("bad_content") from ValueError(f"a part of type {kind!r}")
    return "".join(texts)


def _paths(item: dict, name: str) -> list[str]:
    value = item.get(name)
    if value in (None, "", []):
        return []
    return [_path(path) for path in (value if isinstance(value, list) else [value])]


def _path(value: Any) -> str:
    path = value.get("path") if isinstance(value, dict) else value
    # A path must not close its own tag.
    if not isinstance(path, str) or not path.strip() or "<img>" in path or "</img>" in path:
        raise EntryError("bad_image") from ValueError(f"{str(value)[:80]!r} is no path")
    return path


def _placed(turns: list[tuple[str, str]], paths: list[str]) -> Plain:
    """Every `<image>` of the users' texts becomes `Picture n: <img>path</img>` and a newline, n
    counted over the dialogue, as the released code writes pictures.
    """
    shown = [path.strip() for _, text in turns for path in _IMG.findall(text)]
    places = sum(len(_PLACE.findall(text)) for _, text in turns)
    if shown and not places and (not paths or shown == [path.strip() for path in paths]):
        return Plain(turns, False)  # the field says once more what the text shows
    if shown and (places or paths) or places != len(paths):
        raise EntryError("picture_not_in_text") from ValueError(
            f"{len(paths)} pictures beside the text, {places} <image> and {len(shown)} <img> in it"
        )
    if any(role != "user" and _PLACE.search(text) for role, text in turns):
        raise EntryError("picture_not_in_text") from ValueError("<image> outside a user's text")
    numbers = iter(range(len(paths)))

    def show(_: re.Match) -> str:
        number = next(numbers)
        return f"Picture {number + 1}: <img>{paths[number]}</img>\n"

    placed = [(role, _PLACE.sub(show, text)) for role, text in turns]
    return Plain(placed, bool(paths))
