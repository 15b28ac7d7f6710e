"""Ways to do the same work, timed in turns, and sides of a comparison in processes of their own."""

import json
import subprocess
import sys
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


def in_process(python: str, *flags: str) -> Any:
    """What this script prints last, as JSON, when it is started once more with `flags` added.

    A process gives its device's memory back when it ends, and JAX holds most of it until then.

    Raises:
      subprocess.CalledProcessError: it failed.
    """
    command = [python, *sys.argv, *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    *said, last = done.stdout.splitlines() or [""]
    print(*said, sep="\n", end="\n" if said else "", flush=True)
    if done.returncode:
        print(last, flush=True)
    done.check_returncode()
    return json.loads(last)
