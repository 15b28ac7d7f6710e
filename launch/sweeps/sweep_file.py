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


def check(workdir: Path, arms: Sequence[Arm], *, seeds: int, evaluation: dict[str, Any]) -> None:
    """Whether a folder is free, or belongs to a sweep of the same runs.

    Raises:
      ValueError: it belongs to another sweep, or holds something else.
    """
    if (workdir / NAME).is_file():
        names = [f"{arm.name}/seed{seed}" for seed in range(seeds) for arm in arms]
        wanted = {"runs": names, "evaluation": _plain(evaluation)}
        _refuse(workdir, _differences(read(workdir), wanted))
    elif workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise ValueError(f"{workdir} is not empty and holds no {NAME}")


def claim(
    workdir: Path, runs: Sequence[Run], arms: Sequence[Arm], *, evaluation: dict[str, Any]
) -> None:
    """Write `sweep.json`, or add this start to the one of the same sweep, after `check`.

    Raises:
      ValueError: the folder belongs to a sweep whose runs have the same names.
    """
    path = workdir / NAME
    plain = {arm.name: arm.overrides for arm in arms}
    about = {"digest": digest(runs), "arms": plain, "runs": [run.name for run in runs]}
    about |= {"evaluation": evaluation, "git": []}
    if path.is_file():
        found = read(workdir)
        if found["digest"] != about["digest"]:
            _refuse(workdir, ["its runs have the same names but other configs"])
        about["git"] = found["git"]
    state = git_state()
    if state not in about["git"]:
        about["git"].append(state)
    workdir.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(about, indent=1, ensure_ascii=False), "utf-8")
    partial.replace(path)


def _plain(value: Any) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(value))


def _refuse(workdir: Path, differences: Sequence[str]) -> None:
    if differences:
        raise ValueError(f"{workdir} holds another sweep: {'; '.join(differences)}")


def read(workdir: Path) -> dict[str, Any]:
    """What `claim` wrote.

    Raises:
      ValueError: it is no JSON.
    """
    try:
        return json.loads((workdir / NAME).read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{workdir / NAME} is damaged: {error}") from None


def _differences(found: dict, wanted: dict) -> list[str]:
    return [
        f"its {what} are {_short(found[what])}, not {_short(wanted[what])}"
        for what in wanted
        if found[what] != wanted[what]
    ]


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
