"""How every command begins and ends: flags, one line for a mistake, exit codes (`endings.py`).

What nobody foresaw is a bug and keeps its traceback. `--debug` shows it for the others as well.
"""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags

from qwenvl_jax.endings import FAILED, INTERRUPTED, MISTAKE, Ending

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("configs", "launch", "data_pipelines", "qwenvl_jax")
OURS = tuple(str(ROOT / room) + os.sep for room in ROOMS)
FILES = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError, FileExistsError)

flags.DEFINE_bool("debug", False, "Show the traceback of a mistake.")


def start(main: Callable[[Sequence[str]], None], *, required: Sequence[str] = ()) -> None:
    """Parse the flags, run a command's `main`, and end the process with the code of what happened.

    Args:
      required: names of flags that must be given.
    """
    name = Path(sys.argv[0]).stem

    def parse(arguments: list[str]) -> list[str]:
        try:
            rest = flags.FLAGS(arguments)
            for flag in required:
                if flags.FLAGS[flag].value is None:
                    raise ValueError(f"--{flag} is missing; `{name}.py --help` tells all flags")
            if len(rest) > 1:
                raise ValueError(f"{rest[1]!r} is no flag; did you mean --{rest[1]}?")
        except (flags.Error, ValueError, *FILES) as error:
            _end(name, error, MISTAKE, debug="--debug" in arguments)
        return rest

    def guarded(arguments: Sequence[str]) -> None:
        debug = flags.FLAGS.debug
        try:
            main(arguments)
        except Ending as error:
            _end(name, error, error.code, debug=debug)
        except MemoryError as error:
            _end(name, error, FAILED, debug=debug)
        except KeyboardInterrupt:
            print(f"\n{name}: interrupted; the same command goes on", file=sys.stderr)
            sys.exit(INTERRUPTED)
        except (ValueError, *FILES) as error:
            if not _foreseen(error):
                raise
            _end(name, error, MISTAKE, debug=debug)

    app.run(guarded, flags_parser=parse)


def _foreseen(error: BaseException) -> bool:
    """Whether our own code raised it to name a mistake, or could not open what the user named."""
    if isinstance(error, FILES):
        return True
    *_, last = traceback.extract_tb(error.__traceback__)
    return last.filename.startswith(OURS)


def _end(name: str, error: BaseException, code: int, *, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    print(f"{name}: {error}", file=sys.stderr)
    sys.exit(code)
