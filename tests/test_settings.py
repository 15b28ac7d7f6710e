"""Config to dataclasses: a user's mistake is told with the key as the user wrote it."""

import dataclasses
from typing import Literal

import pytest

from qwenvl_jax import settings


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    weight: float = 1.0

    def __post_init__(self):
        if self.weight <= 0:
            raise ValueError("weight must be positive")


@dataclasses.dataclass(frozen=True)
class Whole:
    count: int
    part: Part
    parts: tuple[Part, ...] = ()
    mode: Literal["fast", "safe"] = "safe"
    limit: int | None = 3
    flag: bool = False
    sizes: tuple[int, ...] = dataclasses.field(default_factory=tuple)


GOOD = {"count": 2, "part": {"name": "a", "weight": 2}}


def test_nested_groups_lists_and_defaults():
    """Each kind of field that a config page uses must arrive typed, defaults included."""
    values = GOOD | {"parts": [{"name": "b"}, {"name": "c"}], "mode": "fast", "limit": None}
    got = settings.build(Whole, values | {"sizes": [1, 2]}, "config")
    want = Whole(2, Part("a", 2.0), (Part("b"), Part("c")), "fast", None, False, (1, 2))
    assert got == want
    assert type(got.part.weight) is float  # written as 2 on the page


def test_a_ready_dataclass_is_taken():
    """Callers that build a part themselves need not take it apart again."""
    assert settings.build(Whole, {"count": 1, "part": Part("z")}, "config").part == Part("z")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cuont": 1}, r"config\.cuont is not known; did you mean count"),
        ({"part": {}}, r"config\.part\.name is missing"),
        ({"part": {"name": "a", "wieght": 1.0}}, r"config\.part\.wieght is not known"),
        ({"part": 3}, r"config\.part must be a group of settings, got 3"),
        ({"parts": [{"name": "a"}, {"name": 4}]}, r"config\.parts\[1\]\.name must be str, got 4"),
        ({"parts": "ab"}, r"config\.parts must be a list"),
        ({"mode": "quick"}, r"config\.mode must be one of 'fast', 'safe', got 'quick'"),
        ({"count": 2.5}, r"config\.count must be int, got 2\.5"),
        ({"count": None}, r"config\.count is missing"),
        ({"count": True}, r"config\.count must be int, got True"),
        ({"flag": 1}, r"config\.flag must be bool, got 1"),
        ({"limit": "x"}, r"config\.limit must be int, got 'x'"),
        ({"part": {"name": "a", "weight": 0}}, r"weight must be positive"),
    ],
)
def test_a_mistake_names_its_key(change, message):
    """A misspelt key that was ignored would train with the default; a wrong type fails in jit."""
    with pytest.raises(ValueError, match=message):
        settings.build(Whole, GOOD | change, "config")


def test_a_missing_group_is_named():
    """Else the dataclass itself raises a TypeError without the config's name."""
    with pytest.raises(ValueError, match=r"config\.part is missing"):
        settings.build(Whole, {"count": 1}, "config")
