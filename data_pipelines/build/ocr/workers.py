"""Work on files that may kill or hold up whoever reads them."""

import contextlib
import multiprocessing
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import TypeVar

from data_pipelines.workers import start_builder

Item = TypeVar("Item")
Result = TypeVar("Result")


def survive(
    work: Callable[[Item], Result], items: Sequence[Item], *, processes: int, seconds: float
) -> Iterator[Result | None]:
    """work(item) of every item in order; None of an item on which a worker process dies twice.

    A worker that is at one item for longer than `seconds` dies of it. With one process all is done
    in this one, which then dies instead and has no limit.
    """
    if processes == 1:
        yield from map(work, items)
        return
    done, alone = 0, False
    while done < len(items):
        # One death ends all that a pool was at: the item that is due is then tried alone.
        waiting = items[done : done + 1] if alone else items[done:]
        # Spawn, not fork: libraries that were loaded here have threads, which a fork loses.
        context = multiprocessing.get_context("spawn")
        count = 1 if alone else processes
        with ProcessPoolExecutor(count, context, start_builder) as pool:
            try:
                for result in pool.map(partial(_in_time, work, seconds), waiting):
                    yield result
                    done += 1
            except BrokenProcessPool:
                if alone:
                    yield None
                    done += 1
                alone = not alone
            else:
                alone = False


def _in_time(work: Callable[[Item], Result], seconds: float, item: Item) -> Result:
    # The system's own answer to the alarm ends the process: a handler in Python would never run
    # while a C library holds the interpreter.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return work(item)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def limited_memory(extra: int) -> Iterator[None]:
    """Let this process take no more than `extra` bytes beyond what it has: MemoryError then.

    On Linux; elsewhere nothing is limited.
    """
    account = Path("/proc/self/statm")
    if not account.exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    held = int(account.read_text().split()[5]) * resource.getpagesize()
    wanted = held + extra
    limit = wanted if soft == resource.RLIM_INFINITY else min(wanted, soft)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
