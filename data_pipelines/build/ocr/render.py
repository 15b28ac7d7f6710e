"""Draw a source of pages: shards made side by side, each a function of the config alone."""

import math
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from data_pipelines import schema
from data_pipelines.build import shards
from data_pipelines.build.ocr import fonts
from data_pipelines.build.ocr.config import RenderConfig, check
from data_pipelines.build.ocr.corpus import Corpus
from data_pipelines.build.ocr.page import make_page

_PICTURES = (".jpg", ".jpeg", ".png", ".webp")
_SAMPLE = 20_000  # characters of the text that fonts are chosen by


class _Job(NamedTuple):
    config: RenderConfig
    faces: tuple[str, ...]
    backgrounds: tuple[Path, ...]
    shard: int
    folder: Path
    name: str


def render(config: RenderConfig, out: str | Path) -> str:
    """Write `out/render_LANGUAGE/*.array_record` with its manifest; returns the source's name.

    Page i is a function of (config, i, the files it names), whatever the number of processes.

    Raises:
      ValueError: a config value out of range, or files that cannot be used; the message names the
        key.
    """
    check(config)
    faces = fonts.usable_fonts(config.fonts, Corpus(config.text).start(_SAMPLE))
    backgrounds = _pictures(config.backgrounds) if config.backgrounds else ()
    name = f"render_{config.language}"
    folder = Path(out) / name
    jobs = [_Job(config, faces, backgrounds, n, folder, name) for n in range(config.shards)]
    shards.clear(folder, name)
    written = list(_run(jobs, config.processes or os.cpu_count() or 1))
    shards.write_manifest(
        folder, written, config=config._replace(processes=0)._asdict(), task="ocr",
        language=config.language, fonts=[Path(face).name for face in faces],
        backgrounds=len(backgrounds),
    )  # fmt: skip
    return name


def _pictures(folder: str) -> tuple[Path, ...]:
    found = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in _PICTURES)
    if not found:
        raise ValueError(f"backgrounds={folder}: no {', '.join(_PICTURES)} file")
    return tuple(found)


def _run(jobs: list[_Job], processes: int) -> Iterator[shards.ShardInfo]:
    if processes == 1:
        yield from map(_write, jobs)
        return
    # Spawn, not fork: libraries that were loaded here have threads, which a fork loses.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_write, jobs)


def _write(job: _Job) -> shards.ShardInfo:
    config = job.config
    corpus = Corpus(config.text)
    step = math.ceil(config.pages / config.shards)
    records = (
        schema.pack(
            make_page(
                config, index=index, corpus=corpus, faces=job.faces, backgrounds=job.backgrounds
            )
        )
        for index in range(job.shard * step, min((job.shard + 1) * step, config.pages))
    )
    name = shards.shard_name(job.name, index=job.shard, count=config.shards)
    return shards.write_shard(job.folder / name, records)
