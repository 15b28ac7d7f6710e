"""One annotated sample on its way to a record, and what all readers of annotation files share."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from data_pipelines.build.sources import Bad
from data_pipelines.schema import Region, Task

Kind = TypeVar("Kind")
_NAMES = {dict: "an object", list: "a list", str: "a text"}


class Entry(NamedTuple):
    """A record without its picture."""

    key: str  # unique within the format
    image: bytes | tuple[str, ...]  # the file, or names below the image folder: the first found
    task: Task
    text: str = ""
    question: str = ""
    regions: tuple[Region, ...] = ()  # boxes x0, y0, x1, y1 in the annotation's own units
    # What makes fractions of the boxes: the annotated width and height in pixels; None: the file's
    # own. (1, 1) says that they are fractions already.
    extent: tuple[float, float] | None = None
    meta: dict[str, Any] = {}


class Annotations(NamedTuple):
    """What a reader gets: files (or a folder, where a format is one), and the wanted part."""

    paths: tuple[Path, ...]
    split: str = "train"  # of the formats that keep several in one file


class EntryError(ValueError):
    """An entry that cannot be used; the reason is counted."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def field(item: Any, name: str, kind: type[Kind] | tuple[type, ...]) -> Kind:
    """item[name], checked.

    Raises:
      EntryError: `bad_NAME` where it is absent or of another type, `bad_entry` where item is no
        object.
    """
    if not isinstance(item, dict):
        raise EntryError("bad_entry")
    value = item.get(name)
    # JSON's true is an int to Python, and no number of anything here.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise EntryError(f"bad_{name}")
    return value


def text_field(item: Any, name: str) -> str:
    """item[name] without white space around it; EntryError where nothing is left."""
    value = field(item, name, str).strip()
    if not value:
        raise EntryError(f"bad_{name}")
    return value


def number(value: Any, reason: str) -> float:
    """A finite number of JSON; EntryError of that reason where it is none."""
    # JSON may spell an integer that no float holds, and Python reads NaN and Infinity.
    if type(value) not in (int, float) or not abs(value) < 1e15:
        raise EntryError(reason)
    return float(value)


def answers_field(item: Any, name: str = "answers") -> list[str]:
    """The answers of a question, as the annotators gave them.

    Raises:
      EntryError: `no_answer` where there is none, as in test files.
    """
    if isinstance(item, dict) and item.get(name) is None:
        raise EntryError("no_answer")
    answers = [a.strip() for a in field(item, name, list) if isinstance(a, str) and a.strip()]
    if not answers:
        raise EntryError("no_answer")
    return answers


def each(
    items: Iterable[Any], read: Callable[[Any], Iterable[Entry | Bad]], *, where: str = "entry"
) -> Iterator[Entry | Bad]:
    """What `read` makes of every item, or why it makes nothing of one."""
    for number, item in enumerate(items):
        try:
            yield from read(item)
        except EntryError as error:
            yield Bad(error.reason, f"{where} {number}")


def load_json(path: Path) -> Any:
    """A whole JSON file, in memory.

    Raises:
      ValueError: it is not one; the message names it. Pickled annotations are refused: reading one
        runs whatever code is in it.
    """
    if not path.is_file():
        raise ValueError(f"annotations {path}: there is no such file")
    data = path.read_bytes()
    # A pickle of protocol 2 and later starts with this byte, which no JSON does.
    if path.suffix in (".p", ".pkl", ".pickle") or data[:1] == b"\x80":
        raise ValueError(
            f"annotations {path}: a pickle can run code when it is read; save it as JSON first"
        )
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"annotations {path}: not JSON: {error}") from error


def load_parts(paths: Sequence[Path], *wanted: tuple[str, type]) -> list[Any]:
    """Of some JSON files what is wanted: (name, type) of an entry, or ("", type) of a whole file.

    Raises:
      ValueError: a file is no JSON, or for something wanted none fits or several do that
        differ.
    """
    values = [load_json(path) for path in paths]
    parts = []
    for name, kind in wanted:
        inner = [v.get(name) if isinstance(v, dict) else None for v in values] if name else values
        found = [value for value in inner if isinstance(value, kind)]
        if not found or any(value != found[0] for value in found):
            what = f"{_NAMES[kind]} {name!r}" if name else f"{_NAMES[kind]} at the top"
            listed = ", ".join(str(path) for path in paths)
            raise ValueError(f"annotations {listed}: {len(found)} have {what}, one must")
        parts.append(found[0])
    return parts
