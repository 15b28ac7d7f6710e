"""Arms from text: `model.adapter.num_queries=4,9,16;optim.peak_lr=1e-3,3e-3` is six of them.

An arm is a set of overrides of config fields with a name that follows from them. Axes multiply; a
zip moves several fields together; a Python file names its arms itself.
"""

import hashlib
import importlib.util
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

LONGEST_NAME = 80


class Arm(NamedTuple):
    name: str
    overrides: dict[str, Any]  # field below `config` -> value


def grid(text: str) -> list[list[Arm]]:
    """`a.b=1,2;c.d=x` -> an axis of arms for each field.

    Raises:
      ValueError: what cannot be read.
    """
    fields = _fields(text, "grid")
    short = short_names([key for key, _ in fields])
    return [[_arm({key: value}, short) for value in values] for key, values in fields]


def zipped(text: str) -> list[Arm]:
    """`a.b=1,2;c.d=3,4` -> one axis of two arms, (1, 3) and (2, 4).

    Raises:
      ValueError: what cannot be read, or lists of different lengths.
    """
    fields = _fields(text, "zip")
    lengths = {key: len(values) for key, values in fields}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"--zip: lists of different lengths: {lengths}")
    short = short_names([key for key, _ in fields])
    rows = zip(*(values for _, values in fields), strict=True)
    return [_arm(dict(zip(lengths, row, strict=True)), short) for row in rows]


def from_file(spec: str) -> list[Arm]:
    """`configs/ablations/queries.py:demo` -> the arms that its `get_arms("demo")` returns.

    Raises:
      ValueError: no such file, or what it returns is no {name: {field: value}}.
    """
    name, _, variant = spec.partition(":")
    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(f"--arms: {name} is no Python file")
    found = importlib.util.spec_from_file_location(f"arms_{path.stem}", path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    if not hasattr(module, "get_arms"):
        raise ValueError(f"--arms: {name} has no function get_arms(variant)")
    arms = module.get_arms(variant)
    if not isinstance(arms, dict) or not all(isinstance(o, dict) for o in arms.values()):
        raise ValueError(f"--arms: {name}: get_arms must return {{name: {{field: value}}}}")
    return [Arm(str(arm), dict(overrides)) for arm, overrides in arms.items()]


def product(axes: Sequence[Sequence[Arm]]) -> list[Arm]:
    """Every combination of one arm from each axis; the last axis moves fastest.

    Raises:
      ValueError: two axes set one field.
    """
    arms = []
    for parts in itertools.product(*axes):
        keys = [key for part in parts for key in part.overrides]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"config.{twice[0]} is set by two of --grid, --zip and --arms")
        overrides = {key: value for part in parts for key, value in part.overrides.items()}
        arms.append(Arm(_fits("_".join(part.name for part in parts)), overrides))
    return arms


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Each field's shortest ending that no other field shares."""
    names = {}
    for key in keys:
        parts = key.split(".")
        others = [f".{other}" for other in keys if other != key]
        endings = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        free = [e for e in endings if not any(other.endswith(f".{e}") for other in others)]
        names[key] = free[0] if free else key
    return names


def _arm(overrides: dict[str, Any], short: dict[str, str]) -> Arm:
    words = [f"{short[key]}-{_plain(value)}" for key, value in overrides.items()]
    return Arm(_fits("_".join(words)), overrides)


def _plain(value: Any) -> str:
    """A value as a part of a folder's name; unlike values stay unlike."""
    text = value if isinstance(value, str) else json.dumps(value)
    clean = re.sub(r"[^A-Za-z0-9.+]+", "-", text).strip("-.")
    if clean == text:
        return clean
    return f"{clean}-{hashlib.sha256(text.encode()).hexdigest()[:4]}".lstrip("-")


def _fits(name: str) -> str:
    """Names of folders have a longest length."""
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _fields(text: str, flag: str) -> list[tuple[str, list[Any]]]:
    fields: list[tuple[str, list[Any]]] = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, equals, values = (word.strip() for word in part.partition("="))
        key = key.removeprefix("config.")
        if not equals or not key or not values:
            raise ValueError(f"--{flag}: {part!r} is not FIELD=VALUE,VALUE,..")
        if key in dict(fields):
            raise ValueError(f"--{flag}: {key} is given twice")
        fields.append((key, _values(values, f"--{flag}: {key}")))
    if not fields:
        raise ValueError(f"--{flag} is empty")
    return fields


def _values(text: str, what: str) -> list[Any]:
    """`1,2` or, where values hold commas, a JSON list."""
    if text.startswith("["):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{what}: {text!r} is no JSON list: {error}") from None
    words = [word.strip() for word in text.split(",")]
    if "" in words:
        raise ValueError(f"{what}: an empty value in {text!r}")
    return [_value(word) for word in words]


def _value(word: str) -> Any:
    """As JSON reads it, true and false included; any other word is text."""
    try:
        return json.loads(word.lower() if word in ("True", "False") else word)
    except json.JSONDecodeError:
        return word
