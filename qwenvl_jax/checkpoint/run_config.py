"""The config of a work directory: `config.json` beside the checked copy that each step holds."""

import json
from pathlib import Path
from typing import Any

from absl import logging

from qwenvl_jax.checkpoint import atomic, intact, manifest, room

NAME = "config.json"


def write(workdir: str | Path, plain: dict[str, Any]) -> None:
    """Store a run's whole config as `config.json`; what was there stays until it is complete.

    Raises:
      DiskFull: there is no space for it.
    """
    text = json.dumps(plain, indent=1, sort_keys=True)
    with room.writing(NAME, Path(workdir), len(text)):
        atomic.write_text(Path(workdir) / NAME, text)


def read(workdir: str | Path, *, step: int | None = None) -> dict[str, Any]:
    """The config that a step's weights were trained with.

    It comes from the step's own copy, which its manifest vouches for. Where `config.json` says
    something else, or cannot be read, the log names the fields. A work directory without a step,
    or whose steps hold no config, has `config.json` alone.

    Args:
      step: whose config; None: the newest step's whose copy is intact.

    Raises:
      ValueError: neither can be read; names the file.
    """
    root = Path(workdir).absolute()
    plain, trouble = _plain(root / NAME)
    saved = None
    for number in [s for s in intact.steps(root) if step in (None, s)]:
        saved = _checked(root, number)
        if saved:
            break
    if not saved and plain is None:
        raise ValueError(f"{root} is no work directory: {trouble}")
    if not saved:
        return plain
    if plain is None:
        logging.warning("%s; taken instead: the config of step %d", trouble, number)
    elif plain != saved:
        lines = [
            f"{key}: {a!r} there, {b!r} in the step" for key, a, b in differences(plain, saved)
        ]
        shown = "; ".join(lines[:5]) + (f"; {len(lines) - 5} more" if len(lines) > 5 else "")
        logging.warning(
            "%s is not the config of step %d, which is taken: %s", root / NAME, number, shown
        )
    return saved


def _plain(path: Path) -> tuple[dict[str, Any] | None, str]:
    """What a file holds, or None and why."""
    try:
        plain = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None, f"it has no {path.name}"
    except ValueError as error:
        return None, f"{path} is damaged: {error}"
    if not isinstance(plain, dict):
        return None, f"{path} is damaged: it holds no config"
    return plain, ""


def _checked(root: Path, step: int) -> dict[str, Any] | None:
    """A step's copy; None where it is damaged or empty."""
    try:
        manifest.verify(intact.step_folder(root, step), only=["meta/metadata"])
    except ValueError as error:
        logging.warning("config of step %d not read: %s", step, error)
        return None
    return intact.read_meta(root, step)["config"] or None


def differences(first: dict, second: dict, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """The fields in which two plain configs differ, as (`optim.steps`, value, value); None stands
    for a field that one of them has not.
    """
    found = []
    for key in sorted(first.keys() | second.keys()):
        a, b, name = first.get(key), second.get(key), f"{prefix}{key}"
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{name}.")
        elif a != b:
            found.append((name, a, b))
    return found
