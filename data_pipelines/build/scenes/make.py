"""Make the embedded data set: shards of captioned pictures and of text, and a tokenizer trained on that text."""

import math
import multiprocessing
import os
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple, get_args

from data_pipelines import schema
from data_pipelines.build import shards
from data_pipelines.build.scenes import captions, glyphs, hints, kinds, layout, picture
from data_pipelines.build.scenes.captions import Language
from data_pipelines.build.scenes.layout import Scene, Split
from qwenvl_jax.text.sentence_piece import train_sentencepiece

_BORDER = "\u241f"  # marks chunk borders for the tokenizer's training; no caption holds it
LANGUAGES: tuple[Language, ...] = get_args(Language)


class SceneConfig(NamedTuple):
    """What the data set holds; `python -m data_pipelines.build scenes` has a flag for every field."""

    scenes: int = 20_000  # pictures of the train split, each captioned in both languages
    eval_scenes: int = 1_000  # pictures of validation, and again of test
    text_scenes: int = 60_000  # text-only train samples, in each language
    kinds: int = 60  # 0: all that the font draws
    image_size: int = 64
    max_objects: int = 4
    object_min: float = 0.3  # longer side of an object, as a share of the picture's
    object_max: float = 0.45
    held_out_every: int = 5  # every n-th kind stays out of training's relation captions; 0: none
    grid: int = 4  # cells of a side in the text samples' picture of a scene: sqrt(queries) fits
    image_format: picture.ImageFormat = "png"
    vocab_size: int = 1_024
    shards: int = 8
    seed: int = 0
    processes: int = 0  # 0: one a core; changes nothing about the data


class _Job(NamedTuple):
    config: SceneConfig
    glyphs: tuple[glyphs.Glyph, ...]
    split: Split
    sources: tuple[str, ...]
    shard: int
    folder: str


def build_scenes(config: SceneConfig, out: str | Path) -> None:
    """Write `out/SPLIT/SOURCE/*.array_record` with manifests, and `out/tokenizer.model`.

    Splits are train, validation and test; sources are scenes_en and scenes_zh (the same pictures, one caption each)
    and text_en and text_zh. Record i is a function of (config, split, i), whatever the number of processes.

    Raises:
      ValueError: a config value out of range; the message names the key.
    """
    _check(config)
    drawn = tuple(glyphs.usable(kinds.all_kinds(), count=config.kinds))
    out = Path(out)
    jobs = [
        _Job(config, drawn, split, sources, shard, str(out / split))
        for split in get_args(Split)
        for sources in (("scenes_en", "scenes_zh"), ("text_en",), ("text_zh",))
        for shard in range(config.shards)
    ]
    written: dict[tuple[str, str], list[shards.ShardInfo]] = {}
    for job, infos in zip(jobs, _run(jobs, config.processes or os.cpu_count() or 1), strict=True):
        for source, info in zip(job.sources, infos, strict=True):
            written.setdefault((job.split, source), []).append(info)
    corpus = (_BORDER.join(chunks) for chunks in _corpus(config, drawn))
    train_sentencepiece(corpus, out / "tokenizer.model", config.vocab_size, delimiter=_BORDER)
    for (split, source), infos in written.items():
        shards.write_manifest(
            out / split / source,
            infos,
            config=config._replace(processes=0)._asdict(),
            language=source[-2:],
            task="caption" if source.startswith("scenes") else "text",
            kinds=[{"en": g.kind.en, "zh": g.kind.zh, "glyph": g.kind.glyph} for g in drawn],
            held_out=sorted(drawn[i].kind.en for i in _held_out(config, drawn)),
        )


def caption_records(
    config: SceneConfig, drawn: tuple[glyphs.Glyph, ...], *, split: Split, index: int
) -> dict[str, schema.Record]:
    """{"scenes_en": .., "scenes_zh": ..}: one picture with its two captions."""
    scene, rng = _scene(config, drawn, f"{config.seed}/{split}/scenes/{index}")
    held_out = _held_out(config, drawn)
    chosen = captions.choose_layout(
        scene, rng, held_out=held_out, allow_held_out=split == "test"
    )
    under = picture.background(rng, image_size=config.image_size)
    image = picture.encode(picture.compose(scene, drawn, under), form=config.image_format)
    shown = list(dict.fromkeys(thing.glyph for thing in scene.objects))
    counts = [sum(thing.glyph == glyph for thing in scene.objects) for glyph in shown]
    unseen = chosen in captions.RELATION_LAYOUTS and bool(held_out & set(shown))
    records = {}
    for language in LANGUAGES:
        told = captions.caption(scene, drawn, layout=chosen, language=language)
        names = {glyph: getattr(drawn[glyph].kind, language) for glyph in shown}
        records[f"scenes_{language}"] = schema.Record(
            key=f"{scene.name}/{language}",
            task="caption",
            language=language,
            images=(image,),
            text=told.text,
            regions=tuple(
                schema.Region(names[thing.glyph], (_box(thing, config.image_size),))
                for thing in scene.objects
            ),
            meta={
                "kinds": list(names.values()),
                "counts": counts,
                "scene": scene.name,
                "layout": chosen,
                "held_out": unseen,
            },
        )
    return records


def text_chunks(
    config: SceneConfig,
    drawn: tuple[glyphs.Glyph, ...],
    *,
    split: Split,
    language: Language,
    index: int,
) -> tuple[str, str, list[str]]:
    """(scene's name, form, chunks) of a text-only sample; the scene is never drawn."""
    scene, rng = _scene(config, drawn, f"{config.seed}/{split}/text_{language}/{index}")
    chosen = captions.choose_layout(
        scene, rng, held_out=_held_out(config, drawn), allow_held_out=split == "test"
    )
    form, chunks = hints.hint(
        scene,
        drawn,
        rng,
        layout=chosen,
        language=language,
        image_size=config.image_size,
        grid=config.grid,
    )
    return scene.name, form, chunks


def _scene(config: SceneConfig, drawn, name: str) -> tuple[Scene, random.Random]:
    return layout.sample_scene(
        drawn,
        name=name,
        image_size=config.image_size,
        max_objects=config.max_objects,
        object_size=(config.object_min, config.object_max),
    )


def _held_out(config: SceneConfig, drawn) -> frozenset[int]:
    every = config.held_out_every
    return frozenset(range(every - 1, len(drawn), every) if every else ())


def _box(thing: layout.Placed, size: int) -> schema.Box:
    right, bottom = thing.x + thing.width, thing.y + thing.height
    return (thing.x / size, thing.y / size, right / size, bottom / size)


def _run(jobs: list[_Job], processes: int) -> Iterator[list[shards.ShardInfo]]:
    if processes == 1:
        yield from map(_write, jobs)
        return
    # Spawn, not fork: the caller may have started JAX, whose threads do not survive a fork.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_write, jobs)


def _write(job: _Job) -> list[shards.ShardInfo]:
    config = job.config
    size = {"train": config.scenes, "validation": config.eval_scenes, "test": config.eval_scenes}
    total = size[job.split]
    if job.sources[0].startswith("text") and job.split == "train":
        total = config.text_scenes
    step = math.ceil(total / config.shards)
    indices = range(job.shard * step, min((job.shard + 1) * step, total))
    streams: dict[str, list[bytes]] = {source: [] for source in job.sources}
    for index in indices:
        for source, record in _records(job, index).items():
            streams[source].append(schema.pack(record))
    return [
        shards.write_shard(
            Path(job.folder, source, shards.shard_name(source, index=job.shard, count=config.shards)),
            records,
        )
        for source, records in streams.items()
    ]


def _records(job: _Job, index: int) -> dict[str, schema.Record]:
    if job.sources[0].startswith("scenes"):
        return caption_records(job.config, job.glyphs, split=job.split, index=index)
    language = job.sources[0][-2:]
    name, form, chunks = text_chunks(
        job.config, job.glyphs, split=job.split, language=language, index=index
    )
    record = schema.Record(
        key=name, task="text", language=language, text="".join(chunks), meta={"form": form}
    )
    return {job.sources[0]: record}


def _corpus(config: SceneConfig, drawn) -> Iterator[list[str]]:
    for index in range(min(config.text_scenes, 5_000)):
        for language in LANGUAGES:
            yield text_chunks(config, drawn, split="train", language=language, index=index)[2]


def _check(config: SceneConfig) -> None:
    least = {"scenes": 0, "eval_scenes": 0, "text_scenes": 1, "kinds": 0, "image_size": 16}
    least |= {"max_objects": 1, "held_out_every": 0, "grid": 1, "shards": 1, "processes": 0}
    for key, value in least.items():
        if getattr(config, key) < value:
            raise ValueError(f"{key}={getattr(config, key)}: must be at least {value}")
    if not 0 < config.object_min <= config.object_max <= 1:
        raise ValueError(
            f"object_min={config.object_min}, object_max={config.object_max}: "
            "need 0 < object_min <= object_max <= 1"
        )
    if config.max_objects > 4:
        raise ValueError(f"max_objects={config.max_objects}: the captions count to 4")
    if config.image_format not in get_args(picture.ImageFormat):
        raise ValueError(f"image_format={config.image_format!r}: expected png or jpeg")
