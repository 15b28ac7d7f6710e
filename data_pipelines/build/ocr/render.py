"""Draw a source of pages: shards made side by side, each a function of the config alone."""

import json
import math
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from data_pipelines import schema
from data_pipelines.build import resume, shards
from data_pipelines.build.engine import local_engine
from data_pipelines.build.ocr import fonts
from data_pipelines.build.ocr.config import RenderConfig, check
from data_pipelines.build.ocr.corpus import Corpus
from data_pipelines.build.ocr.page import make_page

_PICTURES = (".jpg", ".jpeg", ".png", ".webp")
_SAMPLE = 20_000  # characters of the text that fonts are chosen by


class PagesTask(NamedTuple):
    """One shard."""

    config: RenderConfig
    faces: tuple[str, ...]
    backgrounds: tuple[Path, ...]
    index: int
    path: Path
    note: Path  # written when the shard is whole: what the manifest will say of it


def render(config: RenderConfig, out: str | Path) -> str:
    """Write `out/render_LANGUAGE/*.array_record` with its manifest; returns the source's name.

    Page i is a function of (config, i, the files it names), whatever the number of processes. A
    stopped run goes on, a finished one is left as it is; that of other settings is replaced.

    Raises:
      ValueError: a config value out of range, or files that cannot be used; the message names the
        key.
    """
    check(config)
    faces = fonts.usable_fonts(config.fonts, Corpus(config.text).start(_SAMPLE))
    backgrounds = _pictures(config.backgrounds) if config.backgrounds else ()
    name = f"render_{config.language}"
    folder = Path(out) / name
    settings = config._replace(processes=0)._asdict()
    identity = resume.identity_of(settings, [Path(config.text), *map(Path, faces), *backgrounds])
    work = resume.open_work(Path(out), name, identity, sources=[name])
    if work is None:
        return name
    names = [shards.shard_name(name, index=n, count=config.shards) for n in range(config.shards)]
    tasks = [
        PagesTask(config, faces, backgrounds, index, folder / shard, work / f"{index:05d}.json")
        for index, shard in enumerate(names)
    ]
    local_engine(config.processes or os.cpu_count() or 1)(draw_shard, tasks)
    written = [shards.ShardInfo(**json.loads(task.note.read_bytes())) for task in tasks]
    shards.write_manifest(
        folder, written, config=settings, task="ocr", language=config.language,
        fonts=[Path(face).name for face in faces], backgrounds=len(backgrounds), run=identity,
    )  # fmt: skip
    shutil.rmtree(work)
    return name


def _pictures(folder: str) -> tuple[Path, ...]:
    found = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in _PICTURES)
    if not found:
        raise ValueError(f"backgrounds={folder}: no {', '.join(_PICTURES)} file")
    return tuple(found)


def draw_shard(task: PagesTask) -> None:
    """Write one shard, unless it stands there whole."""
    if task.note.exists() and task.path.exists():
        return
    config, corpus = task.config, Corpus(task.config.text)
    step = math.ceil(config.pages / config.shards)
    records = (
        schema.pack(
            make_page(
                config, index=page, corpus=corpus, faces=task.faces, backgrounds=task.backgrounds
            )
        )
        for page in range(task.index * step, min((task.index + 1) * step, config.pages))
    )
    info = shards.write_shard(task.path, records)
    shards.save_whole(task.note, json.dumps(info._asdict()).encode())
