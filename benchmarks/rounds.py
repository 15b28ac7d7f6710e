"""Ways to do the same work, timed in turns."""

import time
from collections.abc import Callable
from typing import Any


def alternate(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict]:
    """Run every way once for its result, then `rounds` times in turns for its seconds.

    A way returns when its work is done, not when it is dispatched. The first run, which may
    compile, is not timed.
    """
    found = {name: {"result": way(), "seconds": []} for name, way in ways.items()}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            found[name]["seconds"].append(time.perf_counter() - start)
    return found
