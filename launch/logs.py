"""What a command says while it works: our own lines, and of Orbax only what is wrong."""

import functools
import logging
import sys
from collections.abc import Callable
from typing import Any

from absl import logging as absl_logging


def start() -> None:
    """Show INFO lines, except Orbax's, which dumps its objects at every save.

    Where a disk refuses a write, each of Orbax's threads logs the error with its traceback. Each
    write that Orbax no longer waits for prints another: about 800 lines in all. They are left out,
    because the error that ends the run says it in one line.
    """
    absl_logging.set_verbosity(absl_logging.INFO)
    absl_logging.get_absl_handler().addFilter(_shown)
    sys.unraisablehook = functools.partial(_unraisable, sys.unraisablehook)


def _shown(line: logging.LogRecord) -> bool:
    orbax = "orbax" in line.pathname
    if orbax and line.levelno <= logging.INFO:
        return False
    if not (line.exc_info and (orbax or "asyncio" in line.pathname)):
        return True
    from qwenvl_jax.checkpoint import room  # only where Orbax is: other commands start without jax

    return room.refused(line.exc_info[1]) is None


def _unraisable(usual: Callable, error: Any) -> None:
    """TensorStore comes here, without an object, when the loop that awaited a write has ended."""
    if error.object is not None or str(error.exc_value) != "Event loop is closed":
        usual(error)
