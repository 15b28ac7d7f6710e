"""From a raw crawl to finished sources: filter every shard, decide duplicates, write, report.

A run is named by a hash of the settings and of the input's list of files. Work files stand in
`OUT/.work-HASH` until the end; the same command goes on where it was stopped, another refuses.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.build import report, shards
from data_pipelines.build.duplicates import decide
from data_pipelines.build.engine import Engine
from data_pipelines.build.evaluation import evaluation_keys
from data_pipelines.build.scores import find_scores, wants_scores
from data_pipelines.build.settings import BuildSettings
from data_pipelines.build.shard_job import (
    KEYS_FILE,
    VERDICTS,
    ShardTask,
    filter_shard,
    save_verdicts,
    write_kept,
)
from data_pipelines.build.sources import find_shards

_EVALUATION = "evaluation.keys.npy"


def clean(settings: BuildSettings, *, source_root: Path, out: Path, engine: Engine) -> None:
    """Write `out/SOURCE/*.array_record` with manifests and `out/report.{md,json,png}`.

    Raises:
      ValueError: an input folder is absent or empty, or `out` holds another run's output.
    """
    inputs = {name: find_shards(source_root / s.path) for name, s in settings.sources.items()}
    config = _config(settings)
    listing = [
        [name, path.name, path.stat().st_size] for name, paths in inputs.items() for path in paths
    ]
    scores = {
        path: find_scores(source_root / settings.clip_scores, name, path)
        for name, paths in inputs.items()
        for path in paths
        if settings.clip_scores and wants_scores(settings.sources[name])
    }
    listing += [[file.name, file.stat().st_size] for file in scores.values()]
    evaluation = evaluation_keys(settings.evaluation)
    listing.append(hashlib.sha256(evaluation.tobytes()).hexdigest())
    identity = hashlib.sha256(json.dumps([config, listing]).encode()).hexdigest()
    if _finished(out, identity):
        print(f"{out} is finished")
        return
    work = out / f".work-{identity[:16]}"
    others = [p for p in out.iterdir() if p != work] if out.is_dir() and not work.is_dir() else []
    if others:
        raise ValueError(
            f"{out} holds {others[0].name}, of another run (other settings or input): "
            "choose another folder or remove it"
        )
    work.mkdir(parents=True, exist_ok=True)
    tasks = [
        ShardTask(name, number, str(path), index, len(paths), settings.sources[name],
                  str(work), str(out / name), str(scores.get(path, "")))
        for number, (name, paths) in enumerate(inputs.items())
        for index, path in enumerate(paths)
    ]  # fmt: skip
    engine(filter_shard, tasks)
    if not all(task.part(VERDICTS).exists() for task in tasks):
        np.save(work / _EVALUATION, evaluation, allow_pickle=False)
        tables = [Path(_EVALUATION), *(Path(task.part(KEYS_FILE).name) for task in tasks)]
        verdicts = decide(tables, settings=settings.duplicates, work=work, engine=engine)
        start = len(evaluation)
        for task in tasks:
            count = len(np.load(task.part(KEYS_FILE), mmap_mode="r"))
            save_verdicts(task, verdicts[start : start + count])
            start += count
    engine(write_kept, tasks)
    _finish(tasks, out, config=config, identity=identity)
    shutil.rmtree(work)


def _finish(tasks: list[ShardTask], out: Path, *, config: dict[str, Any], identity: str) -> None:
    accounts = {}
    for name in config["sources"]:
        own = [task for task in tasks if task.source == name]
        account = accounts[name] = report.account([task.part("") for task in own])
        infos = [write_kept(task) for task in own]  # all done: reads what was noted
        account["kept"] = sum(info.records for info in infos)
        lost = account["original"] - sum(account["rejected"].values()) - account["kept"]
        assert lost == 0, f"source {name}: {lost} records are not accounted for"
        shards.write_manifest(
            out / name, infos, config=config, task="caption",
            language=config["sources"][name]["language"], original=account["original"],
            rejected=account["rejected"], mended=account["mended"], run=identity,
        )  # fmt: skip
    report.write(accounts, out, identity=identity)


def _finished(out: Path, identity: str) -> bool:
    """The report is written last of all."""
    path = out / "report.json"
    if not path.is_file() or json.loads(path.read_text("utf-8"))["run"] != identity:
        return False
    shutil.rmtree(out / f".work-{identity[:16]}", ignore_errors=True)
    return True


def _config(settings: BuildSettings) -> dict[str, Any]:
    return dict(
        sources={name: source._asdict() for name, source in settings.sources.items()},
        duplicates=settings.duplicates._asdict(),
        evaluation=settings.evaluation,
        clip_scores=settings.clip_scores,
    )
