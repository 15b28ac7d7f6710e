"""A work directory's own copy of its vocabulary: it stays readable where it is moved to."""

import os
import shutil
from pathlib import Path
from typing import Any

from qwenvl_jax.checkpoint import manifest

NAMES = {".tiktoken": "qwen.tiktoken", ".model": "tokenizer.model"}


def name(vocabulary: Path) -> str:
    """What a work directory or an export calls a vocabulary: by its kind alone."""
    return NAMES.get(vocabulary.suffix, f"tokenizer{vocabulary.suffix}")


def keep(workdir: str | Path, vocabulary: str | Path) -> None:
    """Copy a vocabulary into a work directory that has none.

    Raises:
      ValueError: the directory has another one; its ids mean other tokens.
    """
    source = Path(vocabulary)
    target = Path(workdir) / name(source)
    others = [Path(workdir) / other for other in NAMES.values() if other != target.name]
    if target.exists():
        if manifest.sha256(target) != manifest.sha256(source):
            raise ValueError(
                f"config.data.tokenizer={source} is not the vocabulary that {workdir} was started"
                f" with, {target}"
            )
        return
    for other in others:
        if other.exists():
            raise ValueError(f"config.data.tokenizer={source}, but {workdir} has {other.name}")
    partial = target.with_name(f"{target.name}.partial")
    with partial.open("wb") as file:
        with source.open("rb") as given:
            shutil.copyfileobj(given, file)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(target)


def find(workdir: str | Path, run_config: dict[str, Any]) -> Path | None:
    """The vocabulary of a work directory: its own copy, else what its config names.

    Returns:
      A path; None for the installed Qwen vocabulary.
    """
    for known in NAMES.values():
        if (Path(workdir) / known).is_file():
            return Path(workdir) / known
    named = run_config["data"]["tokenizer"]
    return Path(named) if named else None
