"""JSON objects of released directories, read with errors that name the file and the key."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from qwenvl_jax.git_lfs import refuse_pointer


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
      ValueError: no such file, a Git LFS pointer, no JSON, or JSON that is no object; names the
        file.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    refuse_pointer(path)
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: the file is no object")
    return values


class Table:
    """A JSON object whose errors name the file and the key."""

    def __init__(self, path: Path, values: Any, prefix: str = ""):
        self.path, self._prefix = path, prefix
        if not isinstance(values, Mapping):
            raise ValueError(f"{path}: {prefix.rstrip('.') or 'the file'} is no object")
        self.values = values

    def table(self, key: str) -> "Table":
        """The object under a key; empty where there is none."""
        return Table(self.path, self.values.get(key, {}), f"{self._prefix}{key}.")

    def key(self, key: str) -> str:
        """How the file calls a key of this object, from its outermost object on."""
        return f"{self._prefix}{key}"

    def number(self, key: str, default: int | float | None = None) -> Any:
        """A number above 0.

        Raises:
          ValueError: another value, or none where there is no default.
        """
        if key not in self.values and default is None:
            raise ValueError(f"{self.path}: key {self.key(key)!r} is missing")
        value = self.values.get(key, default)
        # The limit keeps NaN and infinity out, which Python's parser takes for numbers.
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e300:
            raise ValueError(
                f"{self.path}: {self.key(key)} must be a number above 0, not {value!r}"
            )
        return value

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number above 0.

        Raises:
          ValueError: another value, or none where there is no default.
        """
        value = self.number(key, default)
        if not isinstance(value, int):
            self.refuse(key, "is no whole number")
        return value

    def only(self, key: str, *allowed: Any) -> None:
        """Check that a key is absent or has one of these values.

        Raises:
          ValueError: it has another one.
        """
        if key in self.values and self.values[key] not in allowed:
            self.refuse(key, f"is not supported; supported is {allowed[0]!r}")

    def refuse(self, key: str, why: str) -> NoReturn:
        raise ValueError(f"{self.path}: {self.key(key)}={self.values.get(key)!r} {why}")
