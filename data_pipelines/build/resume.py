"""Where a job's unfinished parts wait, so that the same command goes on after a kill."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_pipelines.build import shards


def identity_of(config: Any, files: Iterable[Path]) -> str:
    """Names a run: two runs of one name read the same files under the same settings.

    Args:
      config: whatever JSON can write.
      files: that the run reads; their paths, sizes and times of change count.
    """
    stats = [(str(path), path.stat()) for path in files]
    listing = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
    return hashlib.sha256(json.dumps([config, listing]).encode()).hexdigest()


def open_work(out: Path, job: str, identity: str, *, sources: Sequence[str]) -> Path | None:
    """The folder of a run's parts, with what a stopped run has done; None where it is finished.

    When a run starts for the first time, the job's other runs give way: their parts and `sources`,
    the folders below `out` that the job writes, are removed.
    """
    work = out / f".work-{job}-{identity[:16]}"
    if work.is_dir():
        return work
    if any(_run_of(out / name) == identity for name in sources):
        return None
    for other in out.glob(f".work-{job}-*"):
        shutil.rmtree(other)
    for name in sources:
        shards.clear(out / name, name)
    work.mkdir(parents=True)
    return work


def _run_of(folder: Path) -> str | None:
    try:
        return shards.read_manifest(folder).get("run")
    except (FileNotFoundError, ValueError):  # none, or a damaged one: it is written anew
        return None
