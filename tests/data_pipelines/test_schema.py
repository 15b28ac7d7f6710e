"""The record on disk: every data set ever written depends on it."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines import schema
from data_pipelines.schema import Ask, Record, Region, Turn

SHARES = st.floats(0, 1)
REGIONS = st.builds(
    Region,
    phrase=st.text(),
    boxes=st.lists(st.tuples(*[SHARES] * 4), max_size=2).map(tuple),
    quads=st.lists(st.tuples(*[SHARES] * 8), max_size=2).map(tuple),
    span=st.none() | st.tuples(st.integers(0, 99), st.integers(0, 99)),
)
RECORDS = st.builds(
    Record,
    key=st.text(),
    task=st.sampled_from(["caption", "vqa", "grounding", "ocr", "text", "chat"]),
    language=st.sampled_from(["en", "zh"]),
    images=st.lists(st.binary(max_size=20), max_size=2).map(tuple),
    text=st.text(),
    question=st.text(),
    regions=st.lists(REGIONS, max_size=2).map(tuple),
    turns=st.lists(st.builds(Turn, st.sampled_from(["user", "assistant"]), st.text())).map(tuple),
    more=st.lists(
        st.builds(
            Ask,
            task=st.sampled_from(["vqa", "referring"]),
            text=st.text(),
            question=st.text(),
            regions=st.lists(REGIONS, max_size=1).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    meta=st.dictionaries(st.text(), st.integers(0, 9) | st.floats(0, 9) | st.text()),
)


@given(RECORDS)
def test_records_survive_the_disk(record):
    """Text in any script, image bytes, boxes to the last bit, and the types that readers rely
    on.
    """
    got = schema.unpack(schema.pack(record))
    assert got == record
    assert all(isinstance(region, Region) for region in got.regions)
    assert all(isinstance(turn, Turn) for turn in got.turns)


def test_layout_on_disk_is_fixed():
    """Shards written by an older version must stay readable: a list with the version first, fields
    in this order. Whoever changes it raises SCHEMA_VERSION.
    """
    record = Record("k", "caption", "zh", (b"\x89PNG",), "一只猫", meta={"n": 1})
    raw = msgpack.unpackb(schema.pack(record))
    assert raw == [2, "k", "caption", "zh", [b"\x89PNG"], "一只猫", "", [], [], {"n": 1}, []]
    older = [1, *raw[1:-1]]
    assert schema.unpack(msgpack.packb(older)) == record


GOOD = [2, "k", "caption", "en", [b"x"], "a cat", "", [], [], {}, []]


def changed(index, value):
    return msgpack.packb([*GOOD[:index], value, *GOOD[index + 1 :]])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a record"),
        (b"\x00", "not a record"),
        (msgpack.packb("text"), "version"),
        (msgpack.packb(GOOD)[:-3], "not a record"),
        (changed(0, 3), "version 3"),
        (msgpack.packb(GOOD[:-1]), "9 fields"),
        (changed(0, 1), "10 fields"),
        (changed(1, 7), "'key'"),
        (changed(2, "paint"), "unknown task 'paint'"),
        (changed(3, "fr"), "unknown language 'fr'"),
        (changed(4, ["not bytes"]), "image is not bytes"),
        (changed(5, None), "'text'"),
        (changed(7, [["a", [], [], None, "one too many"]]), "wrong form"),
        (changed(7, 3), "wrong form"),
        (changed(7, [["a", [[0.1, 0.2, 0.3]]]]), "region is not"),
        (changed(7, [["a", [], [[0.1] * 7 + ["x"]]]]), "region is not"),
        (changed(7, [["a", [], [], [0, 1.5]]]), "region is not"),
        (changed(7, [[None]]), "region is not"),
        (changed(8, [["user", 3]]), "turn is not"),
        (changed(9, "n"), "'meta'"),
        (changed(10, [["paint", "", "", []]]), "unknown task 'paint'"),
        (changed(10, [["vqa", "", ""]]), "wrong form"),
        (changed(10, [["vqa", 1, "", []]]), "one more ask is not"),
        (changed(10, [["vqa", "", "", [["a", [[0.1]]]]]]), "region is not"),
    ],
)
def test_what_is_no_record_is_refused_by_name(data, message):
    """A stream counts a bad record and goes on; any error but ValueError would end the run."""
    with pytest.raises(ValueError, match=message):
        schema.unpack(data)


@given(st.binary(max_size=60))
def test_random_bytes_raise_nothing_but_value_errors(data):
    with pytest.raises(ValueError):
        schema.unpack(data)


@given(st.integers(0, 200), st.integers(1, 255))
def test_damaged_bytes_raise_nothing_but_value_errors(place, flip):
    """A flipped byte may hide in text, but must never end a run."""
    data = bytearray(schema.pack(Record("key", "vqa", "en", (b"img",), "yes", "is it?")))
    data[place % len(data)] ^= flip
    try:
        schema.unpack(bytes(data))
    except ValueError:
        pass
