"""What several checks refuse, told at once."""

from collections.abc import Callable
from typing import Any


class Mistakes:
    """A list that fills as checks are made."""

    def __init__(self):
        self._lines: list[str] = []

    def of(self, check: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What `check` returns; None where it raises a ValueError, whose lines are kept."""
        try:
            return check(*args, **kwargs)
        except ValueError as error:
            self._lines += str(error).splitlines()
            return None

    def refuse(self) -> None:
        """
        Raises:
          ValueError: the whole list, if there is anything on it.
        """
        if self._lines:
            lines = dict.fromkeys(self._lines)
            raise ValueError("\n".join(["nothing was started:", *(f"  {line}" for line in lines)]))
