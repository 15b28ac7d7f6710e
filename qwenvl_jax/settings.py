"""From a config (ml_collections or plain dict) to frozen dataclasses, with errors that name the
config key.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], key: str) -> T:
    """Fill the dataclass `cls` from a mapping, nested dataclasses and tuples of them included.

    Args:
      cls: a frozen dataclass; its `__post_init__` checks values.
      values: the mapping; a field without default must be there.
      key: how the user calls this mapping, for example `config.optim`.

    Raises:
      ValueError: an unknown or missing key, or a value of the wrong type; the message names the
      key.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    strange = sorted(set(values) - set(fields))
    if strange:
        raise ValueError(unknown(key, strange[0], list(fields)))
    required = [n for n, f in fields.items() if not has_default(f) and values.get(n) is None]
    if required:
        raise ValueError(f"{key}.{required[0]} is missing")
    return cls(**{name: _convert(hints[name], values[name], f"{key}.{name}") for name in values})


def unknown(key: str, name: str, known: Sequence[str]) -> str:
    """What to say of a name that the group `key` does not have."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"{key}.{name} is not known; did you mean {near[0]}?"
    return f"{key}.{name} is not known; {key} takes {', '.join(known)}"


def has_default(field: dataclasses.Field) -> bool:
    """Whether a field of a dataclass may be left out."""
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def _convert(hint: Any, value: Any, key: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        if isinstance(value, list | tuple):  # on a command line: its fields in their order
            value = dict(zip((field.name for field in dataclasses.fields(hint)), value))
        if not hasattr(value, "items"):
            raise ValueError(f"{key} must be a group of settings, got {value!r}")
        return build(hint, value, key)
    if origin is types.UnionType or origin is typing.Union:
        if value is None and type(None) in args:
            return None
        return _convert(next(arg for arg in args if arg is not type(None)), value, key)
    if origin is typing.Literal:
        if value not in args:
            raise ValueError(f"{key} must be one of {', '.join(map(repr, args))}, got {value!r}")
        return value
    if origin is tuple:
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise ValueError(f"{key} must be a list, got {value!r}")
        return tuple(_convert(args[0], item, f"{key}[{i}]") for i, item in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    wrong_bool = isinstance(value, bool) and hint is not bool
    if isinstance(hint, type) and (wrong_bool or not isinstance(value, hint)):
        raise ValueError(f"{key} must be {hint.__name__}, got {value!r}")
    return value
