"""Records of a source that are refused: a few are normal, most of them are a mistake somewhere.

Each virtual shard looks at its own last draws of a source. Above `config.data.max_refused` the run
ends, above a tenth of it the log says so once.
"""

from collections import Counter, deque
from collections.abc import Callable

from absl import logging

WINDOW, LEAST = 1000, 50  # draws that are looked at, and that must be there
MOST, SHOWN = 6, 3  # reasons, and keys of each


class Refusals:
    """What became of a source's last draws.

    Args:
      source: its name.
      most: `config.data.max_refused`.
      about: from a record's index to its key and, where it can be said, what is wrong with it.
    """

    def __init__(self, source: str, most: float, about: Callable[[int], str]):
        self._source, self._most, self._about = source, most, about
        self._draws: deque[tuple[str, int]] = deque(maxlen=WINDOW)  # reason, "" if taken; index
        self._refused, self._warned = 0, False

    def see(self, reason: str, index: int) -> None:
        """Take a draw: the reason that its record is refused for, "" where it is not.

        Raises:
          ValueError: too many are; names the source, the commonest reasons and some keys of each.
        """
        if len(self._draws) == WINDOW:
            self._refused -= bool(self._draws[0][0])
        self._draws.append((reason, index))
        self._refused += bool(reason)
        if not reason or len(self._draws) < LEAST:
            return
        share = self._refused / len(self._draws)
        if share > self._most:
            raise ValueError(
                f"{self._text(share)}; above config.data.max_refused={self._most}, as most of a"
                " source that is refused is a mistake"
            )
        if share > self._most / 10 and not self._warned:
            self._warned = True
            logging.warning("%s", self._text(share))

    def _text(self, share: float) -> str:
        reasons = Counter(reason for reason, _ in self._draws if reason)
        parts = []
        for reason, count in reasons.most_common(MOST):
            indices = list(dict.fromkeys(i for r, i in self._draws if r == reason))[:SHOWN]
            parts.append(f"{reason} {count} ({'; '.join(map(self._about, indices))})")
        return (
            f"config.data.sources.{self._source}: {share:.0%} of {len(self._draws)} records are"
            f" refused: {', '.join(parts)}"
        )
