"""`sweep.json`: which sweep a work directory belongs to, and which code ran it."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.sweeps.grid import Arm
from launch.sweeps.plan import Run, digest

NAME = "sweep.json"
ROOT = Path(__file__).resolve().parents[2]


def claim(
    workdir: Path, runs: Sequence[Run], arms: Sequence[Arm], *, evaluation: dict[str, Any]
) -> None:
    """Write `sweep.json`, or add this start to the one of the same sweep.

    Raises:
      ValueError: the folder belongs to another sweep, or holds something else.
    """
    path = workdir / NAME
    plain = {arm.name: arm.overrides for arm in arms}
    about = {"digest": digest(runs), "arms": plain, "runs": [run.name for run in runs]}
    about |= {"evaluation": evaluation, "git": []}
    if path.is_file():
        found = read(workdir)
        differing = _differences(found, about)
        if differing:
            raise ValueError(f"{workdir} holds another sweep: {differing}")
        about["git"] = found["git"]
    elif workdir.exists() and any(workdir.iterdir()):
        raise ValueError(f"{workdir} is not empty and holds no {NAME}")
    state = git_state()
    if state not in about["git"]:
        about["git"].append(state)
    workdir.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(about, indent=1, ensure_ascii=False), "utf-8")
    partial.replace(path)


def read(workdir: Path) -> dict[str, Any]:
    """What `claim` wrote.

    Raises:
      ValueError: it is no JSON.
    """
    try:
        return json.loads((workdir / NAME).read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{workdir / NAME} is damaged: {error}") from None


def _differences(found: dict, wanted: dict) -> str:
    """In words; empty where both are one sweep."""
    words = []
    for key, what in (("runs", "runs"), ("evaluation", "evaluation")):
        if found[key] != wanted[key]:
            words.append(f"its {what} are {_short(found[key])}, not {_short(wanted[key])}")
    if not words and found["digest"] != wanted["digest"]:
        words.append("its runs have the same names but other configs")
    return "; ".join(words)


def _short(value: Any) -> str:
    text = ", ".join(value) if isinstance(value, list) else json.dumps(value)
    return text if len(text) < 200 else f"{text[:200]}.."


def git_state() -> dict[str, Any]:
    """Commit and uncommitted changes of this code; empty outside a clone."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    try:
        commit = git("rev-parse", "HEAD").strip()
        changed = git("status", "--porcelain").splitlines()
        return {"commit": commit, "changed": changed, "diff": git("diff", "HEAD")}
    except (OSError, subprocess.CalledProcessError):
        return {}
