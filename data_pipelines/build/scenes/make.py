"""Make the embedded data set: shards of captioned pictures and of text, and a tokenizer for it."""

import json
import math
import multiprocessing
import os
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple, get_args

from data_pipelines import schema
from data_pipelines.build import shards
from data_pipelines.build.scenes import glyphs, kinds
from data_pipelines.build.scenes.captions import LANGUAGES
from data_pipelines.build.scenes.config import SceneConfig, check
from data_pipelines.build.scenes.layout import Split
from data_pipelines.build.scenes.records import caption_records, held_out_kinds, text_chunks
from data_pipelines.build.scenes.tasks.cells import NAMES
from data_pipelines.build.scenes.tasks.every import TASKS, TRAINED_AS, task_records, texts
from qwenvl_jax.text.sentence_piece import train_sentencepiece
from qwenvl_jax.text.tokenizer import load_tokenizer

_BORDER = "\u241f"  # marks chunk borders for the tokenizer's training; no caption holds it


class _Job(NamedTuple):
    config: SceneConfig
    glyphs: tuple[glyphs.Glyph, ...]
    split: Split
    sources: tuple[str, ...]
    shard: int
    folder: str


def build_scenes(config: SceneConfig, out: str | Path) -> None:
    """Write `out/SPLIT/SOURCE/*.array_record` with manifests, `out/tokenizer.model`, and
    `out/tokenizer.json` with the numbers that a model's config needs of it.

    Splits are train, validation and test; sources are scenes_en and scenes_zh (the same
    pictures, one caption each), text_en and text_zh, and with `config.task_scenes` TASK_en and
    TASK_zh of every other task, and told_en and told_zh, text of scenes and questions. Record i is
    a function of (config, split, i), whatever the number of processes.

    Raises:
      ValueError: a config value out of range; the message names the key.
    """
    check(config)
    drawn = tuple(glyphs.usable(kinds.all_kinds(), count=config.kinds))
    out = Path(out)
    (out / "tokenizer.model").unlink(missing_ok=True)
    jobs = [
        _Job(config, drawn, split, sources, shard, str(out / split))
        for split in get_args(Split)
        for sources in _sources(config)
        for shard in range(config.shards)
    ]
    for job in jobs:
        for source in job.sources:
            shards.clear(Path(job.folder, source), source)
    written: dict[tuple[str, str], list[shards.ShardInfo]] = {}
    for job, infos in zip(jobs, _run(jobs, config.processes or os.cpu_count() or 1), strict=True):
        for source, info in zip(job.sources, infos, strict=True):
            written.setdefault((job.split, source), []).append(info)
    for (split, source), infos in written.items():
        shards.write_manifest(
            out / split / source,
            infos,
            config=config._replace(processes=0)._asdict(),
            language=source[-2:],
            task=TRAINED_AS.get(_task(source), _task(source)),
            kinds=[{"en": g.kind.en, "zh": g.kind.zh, "glyph": g.kind.glyph} for g in drawn],
            held_out=sorted(drawn[i].kind.en for i in held_out_kinds(config, drawn)),
        )
    _make_tokenizer(config, drawn, out)


def _sources(config: SceneConfig) -> list[tuple[str, ...]]:
    """Sources that are made together, as they show the same scenes."""
    tasks = (*TASKS, "told") if config.task_scenes else ()
    pairs = [tuple(f"{task}_{language}" for language in LANGUAGES) for task in ("scenes", *tasks)]
    return [*pairs, ("text_en",), ("text_zh",)]


def _task(source: str) -> str:
    return source.rpartition("_")[0]


def _run(jobs: list[_Job], processes: int) -> Iterator[list[shards.ShardInfo]]:
    if processes == 1:
        yield from map(_write, jobs)
        return
    # Spawn, not fork: the caller may have started JAX, whose threads do not survive a fork.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_write, jobs)


def _write(job: _Job) -> list[shards.ShardInfo]:
    config = job.config
    task = _task(job.sources[0])
    total = _train_size(config, task) if job.split == "train" else config.eval_scenes
    step = math.ceil(total / config.shards)
    indices = range(job.shard * step, min((job.shard + 1) * step, total))
    streams: dict[str, list[bytes]] = {source: [] for source in job.sources}
    for index in indices:
        for source, record in _records(job, index).items():
            streams[source].append(schema.pack(record))
    return [
        shards.write_shard(
            Path(
                job.folder, source, shards.shard_name(source, index=job.shard, count=config.shards)
            ),
            records,
        )
        for source, records in streams.items()
    ]


def _train_size(config: SceneConfig, task: str) -> int:
    """Training samples of a task, in each language."""
    if task == "scenes":
        return config.scenes
    if task in ("text", "told"):
        return config.text_scenes
    if task in ("ocr", "signs"):
        return config.sign_scenes or config.task_scenes
    return config.task_scenes


def _records(job: _Job, index: int) -> dict[str, schema.Record]:
    task = _task(job.sources[0])
    if task == "scenes":
        return caption_records(job.config, job.glyphs, split=job.split, index=index)
    if task != "text":
        return task_records(job.config, job.glyphs, task=task, split=job.split, index=index)
    language = job.sources[0][-2:]
    name, form, chunks = text_chunks(
        job.config, job.glyphs, split=job.split, language=language, index=index
    )
    record = schema.Record(
        key=name, task="text", language=language, text="".join(chunks), meta={"form": form}
    )
    return {job.sources[0]: record}


def _make_tokenizer(config: SceneConfig, drawn: tuple[glyphs.Glyph, ...], out: Path) -> None:
    """Train, describe, then rename: where `tokenizer.model` stands the whole data set is ready."""
    partial = out / "partial.model"
    corpus = (_BORDER.join(chunks) for chunks in _corpus(config, drawn))
    train_sentencepiece(corpus, partial, config.vocab_size, delimiter=_BORDER)
    tokenizer = load_tokenizer(partial)
    sizes = {k: getattr(tokenizer, k) for k in ("vocab_size", "padded_vocab_size")}
    seen = {"image_size": config.image_size, "grid": config.grid}
    about = {**sizes, **tokenizer.specials._asdict(), **seen}
    (out / "tokenizer.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    os.replace(partial, out / "tokenizer.model")


def _corpus(config: SceneConfig, drawn) -> Iterator[list[str]]:
    """Chunks whose borders no piece crosses. A thing's Chinese name is one: it has no spaces around
    it, and a piece `在松树的哪一边` has nothing to do with 松树 nor with another thing's question.
    """
    name = re.compile("(" + "|".join(glyph.kind.zh for glyph in drawn) + ")")
    for chunks in _written(config, drawn):
        yield [part for chunk in chunks for part in name.split(chunk) if part]


def _written(config: SceneConfig, drawn) -> Iterator[list[str]]:
    for index in range(min(config.text_scenes, 5_000)):
        for language in LANGUAGES:
            yield text_chunks(config, drawn, split="train", language=language, index=index)[2]
    for index in range(min(config.task_scenes, 300)):
        yield list(NAMES[: config.grid**2])
        for task in TASKS:
            if task in ("cells", "places", "signs"):
                continue  # a cell is a token: no piece may cross its borders
            for record in task_records(
                config, drawn, task=task, split="train", index=index
            ).values():
                chunks = texts(record)
                if record.task == "ocr" and record.language == "zh":
                    chunks = [character for chunk in chunks for character in chunk]
                yield chunks
