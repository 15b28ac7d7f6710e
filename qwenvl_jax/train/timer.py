"""Where the loop's wall time goes, by name."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator


class Timer:
    """`with timer("data"):` adds to the seconds under that name."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self._start = time.perf_counter()

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def elapsed(self) -> float:
        """Seconds since the timer was made."""
        return time.perf_counter() - self._start

    def shares(self) -> dict[str, float]:
        """Each name's share of the elapsed time."""
        total = self.elapsed()
        return {f"time_share/{name}": spent / total for name, spent in self.seconds.items()}
