"""A plan by a process of its own: it may run out of memory, and gives all of it back."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def compiled(arguments: list[str], folder: Path) -> dict[str, Any] | str:
    """The plan of `launch/compile.py ARGUMENTS`, or why there is none.

    Kept in `folder` and not made twice for the same arguments, but for a process that was killed;
    delete the folder after a change of the code.
    """
    asked, plan, refused = (folder / name for name in ("asked.json", "plan.json", "refused.txt"))
    same = asked.exists() and json.loads(asked.read_text()) == arguments
    if not (same and (plan.exists() or refused.exists())):
        folder.mkdir(parents=True, exist_ok=True)
        for old in (plan, refused):
            old.unlink(missing_ok=True)
        asked.write_text(json.dumps(arguments))
        command = [sys.executable, "launch/compile.py", *arguments, f"--out={folder.resolve()}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if not plan.exists():
            if done.returncode < 0:
                return _reason(done)
            refused.write_text(_reason(done))
    return json.loads(plan.read_text()) if plan.exists() else refused.read_text()


def _reason(done: subprocess.CompletedProcess) -> str:
    told = done.stderr.split("compile: ", 1)
    return told[1] if len(told) > 1 else f"exit status {done.returncode}: {done.stderr[-300:]}"
