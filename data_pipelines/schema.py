"""The record on disk: what `build` writes into ArrayRecord shards and `stream` reads.

One record is one training sample, serialised with msgpack (no code can hide in it). Text is plain:
no markup, no special tokens, no prompt; boxes are fractions of the picture. Prompts and
quantisation belong to the stream, so that a change of wording never rewrites a data set. Only
dialogues keep the markup they were written in, as their words refer to it.
"""

from typing import Any, Literal, NamedTuple, get_args

import msgpack

Task = Literal[
    "caption", "vqa", "grounding", "referring", "grounded_caption", "ocr", "text", "chat"
]
Language = Literal["en", "zh"]
SCHEMA_VERSION = 2
_READ = (1, 2)  # 1 had no `more`

Box = tuple[
    float, float, float, float
]  # x0, y0, x1, y1; x over width, y over height, all in [0, 1]
Quad = tuple[float, ...]  # eight numbers: top-left, top-right, bottom-right, bottom-left


class Region(NamedTuple):
    """A phrase and where it is in the picture."""

    phrase: str
    boxes: tuple[Box, ...] = ()
    quads: tuple[Quad, ...] = ()
    span: tuple[int, int] | None = None  # the phrase's characters in Record.text


class Turn(NamedTuple):
    role: Literal["system", "user", "assistant"]
    text: str  # `<img>n</img>` stands for Record.images[n]; may hold <ref>, <box>, <quad>


class Ask(NamedTuple):
    """One more question, or another task, about the pictures of a record."""

    task: Task
    text: str = ""
    question: str = ""
    regions: tuple[Region, ...] = ()


class Record(NamedTuple):
    """One sample. Which fields a task reads:

    caption text · vqa question, text (the answer) · grounding text, regions with spans · referring
    regions -> boxes · grounded_caption regions -> text · ocr regions with quads · text text and any
    regions with spans, after a question that is only read · chat turns

    Much of what is asked about one picture can share it: `more` follows in the same sample, so that
    the ViT sees the picture once. A dialogue has turns for that.
    """

    key: str  # unique within its source
    task: Task
    language: Language
    images: tuple[bytes, ...] = ()  # encoded files, as they came (JPEG, PNG, WebP)
    text: str = ""
    question: str = ""
    regions: tuple[Region, ...] = ()
    turns: tuple[Turn, ...] = ()
    meta: dict[str, Any] = {}  # numbers and strings that a report or a metric may want
    more: tuple[Ask, ...] = ()


def pack(record: Record) -> bytes:
    """Serialise a record for an ArrayRecord shard."""
    return msgpack.packb([SCHEMA_VERSION, *record], use_bin_type=True)


def unpack(data: bytes) -> Record:
    """Parse and check one record.

    Raises:
      ValueError: not a record of this schema; the message says which field.
    """
    try:
        version, *fields = msgpack.unpackb(data, use_list=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"not a record: {error}") from error
    if version not in _READ:
        raise ValueError(f"record has schema version {version!r}, this code reads {_READ}")
    expected = len(Record._fields) - (version == 1)
    if len(fields) != expected:
        raise ValueError(f"record has {len(fields)} fields, the schema has {expected}")
    try:
        record = Record(*fields)
        record = record._replace(
            regions=tuple(Region(*region) for region in record.regions),
            turns=tuple(Turn(*turn) for turn in record.turns),
            more=tuple(_ask(*ask) for ask in record.more),
        )
    except TypeError as error:
        raise ValueError(f"record field has the wrong form: {error}") from error
    _check(record)
    return record


def _ask(task: Any, text: Any, question: Any, regions: Any) -> Ask:
    return Ask(task, text, question, tuple(Region(*region) for region in regions))


def _check(record: Record) -> None:
    types = {"key": str, "images": tuple, "text": str, "question": str, "meta": dict}
    for name, kind in types.items():
        if not isinstance(getattr(record, name), kind):
            raise ValueError(f"record field {name!r} is not a {kind.__name__}")
    for task in (record.task, *(ask.task for ask in record.more)):
        if task not in get_args(Task):
            raise ValueError(f"record {record.key!r}: unknown task {task!r}")
    if record.language not in get_args(Language):
        raise ValueError(f"record {record.key!r}: unknown language {record.language!r}")
    if not all(isinstance(image, bytes) for image in record.images):
        raise ValueError(f"record {record.key!r}: an image is not bytes")
    if not all(isinstance(part, str) for turn in record.turns for part in turn):
        raise ValueError(f"record {record.key!r}: a turn is not role and text")
    if not all(isinstance(part, str) for ask in record.more for part in ask[1:3]):
        raise ValueError(f"record {record.key!r}: one more ask is not task, text and question")
    regions = (*record.regions, *(region for ask in record.more for region in ask.regions))
    if not all(map(_is_region, regions)):
        raise ValueError(f"record {record.key!r}: a region is not phrase, boxes, quads and span")


def _is_region(region: Region) -> bool:
    return (
        isinstance(region.phrase, str)
        and _are_places(region.boxes, 4)
        and _are_places(region.quads, 8)
        and (region.span is None or _are_numbers(region.span, 2, int))
    )


def _are_places(places: Any, count: int) -> bool:
    return isinstance(places, tuple) and all(_are_numbers(p, count, (int, float)) for p in places)


def _are_numbers(values: Any, count: int, kind: Any) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == count
        and all(isinstance(value, kind) for value in values)
    )
