"""How every command begins and ends: flags, one line for a mistake, exit codes (`endings.py`).

What nobody foresaw is a bug and keeps its traceback. `--debug` shows it for the others as well.
"""

import argparse
import contextlib
import difflib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags

from qwenvl_jax.endings import FAILED, INTERRUPTED, MISTAKE, Ending

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("configs", "launch", "data_pipelines", "qwenvl_jax")
OURS = tuple(str(ROOT / room) + os.sep for room in ROOMS)
FILES = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError, FileExistsError)

flags.DEFINE_bool("debug", False, "Show the traceback of a mistake.")


def start(main: Callable[[Sequence[str]], int | None], *, required: Sequence[str] = ()) -> None:
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
                known = rest[1].split("=")[0] in flags.FLAGS
                hint = f"; did you mean --{rest[1]}?" if known else ""
                raise ValueError(f"{rest[1]!r} is no flag{hint}")
        except (flags.Error, ValueError, *FILES) as error:
            _end(name, error, MISTAKE, debug="--debug" in arguments)
        return rest

    def guarded(arguments: Sequence[str]) -> int:
        return run(name, lambda: main(arguments), debug=flags.FLAGS.debug)

    app.run(guarded, flags_parser=parse)


def run(
    name: str,
    work: Callable[[], int | None],
    *,
    debug: bool = False,
    interrupted: str = "the same command goes on",
) -> int:
    """Do a command's work; returns its exit code, after one line for a foreseen end.

    Args:
      name: of the command, with which the line begins.
      work: returns an exit code, or None for 0.
      debug: show the traceback above the line.
      interrupted: what is said after Ctrl-C.
    """
    try:
        return work() or 0
    except Ending as error:
        return _say(name, error, error.code, debug=debug)
    except MemoryError as error:
        return _say(name, error, FAILED, debug=debug)
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted; {interrupted}", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, *FILES) as error:
        if not _foreseen(error):
            raise
        return _say(name, error, MISTAKE, debug=debug)


class Parser(argparse.ArgumentParser):
    """An argparse parser, for commands with sub-commands, that tells a mistake in one line.

    It knows `--debug`; the parsed arguments hold `debug` only where it is given.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        text = "show the traceback of a mistake"
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=text)

    def error(self, message: str) -> NoReturn:
        """End the process with code 2 and one line."""
        name = self.prog.removeprefix("python -m ").replace(".py", "")
        self.exit(MISTAKE, f"{name}: {message}\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> argparse.Namespace:
        """As argparse's own; an option that is not known is told with the nearest that is."""
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            self.unknown(found, rest)
        return found

    def unknown(self, found: argparse.Namespace, rest: Sequence[str]) -> NoReturn:
        """End the process for options that nothing knows.

        Args:
          found: what was parsed; the name of a sub-command is in it.
          rest: what was not.
        """
        options = [*self._option_string_actions]
        for action in self._actions:
            chosen = getattr(found, action.dest, None)
            if isinstance(action, argparse._SubParsersAction) and chosen in action.choices:
                options += action.choices[chosen]._option_string_actions
        near = difflib.get_close_matches(rest[0].split("=")[0], options, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        self.error(f"{rest[0]} is not known{hint}")


def writable(folder: str | Path, flag: str) -> None:
    """Whether a folder can be made, or written where it is there; leaves nothing behind.

    Args:
      flag: how the user calls it, such as `--out`.

    Raises:
      ValueError: names flag, folder and reason.
    """
    if "://" in str(folder):
        raise ValueError(f"{flag}={folder}: URLs are not taken; mount the bucket as a folder")
    root = Path(folder).absolute()
    if root.is_file():
        raise ValueError(f"{flag}={folder} is a file, not a folder")
    missing = [path for path in (root, *root.parents) if not path.exists()]
    probe, made = root / ".writable", []
    try:
        for path in reversed(missing):
            path.mkdir()
            made.append(path)
        probe.write_bytes(b"")
    except OSError as error:
        raise ValueError(f"{flag}={folder}: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
        for path in reversed(made):
            with contextlib.suppress(OSError):  # another process writes there already
                path.rmdir()


def _foreseen(error: BaseException) -> bool:
    """Whether our own code raised it to name a mistake, or could not open what the user named."""
    if isinstance(error, FILES):
        return True
    *_, last = traceback.extract_tb(error.__traceback__)
    return last.filename.startswith(OURS)


def _end(name: str, error: BaseException, code: int, *, debug: bool) -> NoReturn:
    sys.exit(_say(name, error, code, debug=debug))


def _say(name: str, error: BaseException, code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    known = isinstance(error, FILES) and error.filename and error.strerror
    text = f"{error.filename}: {error.strerror}" if known else str(error)
    print(f"{name}: {text}", file=sys.stderr)
    return code
