"""Sample i of a task: one picture (or two, or none), asked about in two languages."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from data_pipelines import schema
from data_pipelines.build.scenes import picture
from data_pipelines.build.scenes.captions import LANGUAGES, Language
from data_pipelines.build.scenes.config import SceneConfig
from data_pipelines.build.scenes.glyphs import Glyph
from data_pipelines.build.scenes.layout import Scene, Split
from data_pipelines.build.scenes.records import REPEAT, SHOWN, draw_scene, held_out_kinds
from data_pipelines.build.scenes.tasks import cells, chat, grounding, ocr, referring, vqa
from data_pipelines.build.scenes.tasks.signs import draw_signs, place_signs
from data_pipelines.build.scenes.tasks.view import View
from qwenvl_jax.text import chatml, prompts

# What a scene can be asked. Training asks in one sample all of which no answer tells another: who
# finds the second of two things by elimination never learns to look. Who is scored gets the first
# alone.
_ASKED: dict[str, Callable[[View, random.Random], list[dict[str, Any]]]] = {
    "cells": cells.cells,
    "places": cells.places,
    "grounding": grounding.grounding,
    "referring": referring.referring,
    "grounded_caption": referring.grounded_caption,
}
# `cells` asks what stands in each cell, `signs` the same of what `ocr` reads; `places` asks for a
# cell's name or by it; `single` is referring where there is one object; `told` is a scene's cells
# as text, and then what a task asks about it, so that a decoder learns to answer before it sees
# anything.
TASKS = (*_ASKED, "vqa", "single", "ocr", "signs", "chat")
# What is told: task -> how often.
_TOLD = {
    "cells": 4,
    "places": 2,
    "vqa": 6,
    "grounding": 2,
    "referring": 3,
    "grounded_caption": 1,
    "signs": 1,
    "ocr": 1,
}
TRAINED_AS = {"scenes": "caption", "cells": "vqa", "places": "vqa", "signs": "vqa",
              "single": "referring", "told": "text"}  # fmt: skip
# How often a scene that is asked about is to hold one, two, three, four objects: in all tasks'
# training, as it is several that must be learnt to be told apart, and always in `vqa`.
_CROWDED = (1, 3, 3, 2)
# How often an object is of the kind of the one before it, where it is several of a kind that are to
# be learnt: all of them are to be counted and found.
_REPEAT = {"grounding": 0.5, "count": 0.6, "relation": 0.0}
_LOOKS = 200  # scenes that are looked through for one that has a question's answer


def task_records(
    config: SceneConfig, drawn: Sequence[Glyph], *, task: str, split: Split, index: int
) -> dict[str, schema.Record]:
    """{"TASK_en": .., "TASK_zh": ..}: the same scene (on signs, other words). What is asked about
    it is drawn for each language: the same twice in a batch or two would be learnt by heart.

    A scene belongs to one task, split and index; training and validation name no held-out kind in
    a relation.
    """
    make = {"ocr": _signs, "signs": _signs, "told": _told, "chat": _chat}.get(task, _asked)
    name = f"{config.seed}/{split}/{task}/{index}"
    made = make(config, tuple(drawn), task, split, name)
    return {
        f"{task}_{language}": schema.Record(
            key=f"{name}/{language}",
            task=TRAINED_AS.get(task, task),
            language=language,
            **made[language],
        )
        for language in LANGUAGES
    }


def texts(record: schema.Record) -> list[str]:
    """The chunks of plain text that a record is trained as, for a tokenizer to learn from."""
    if record.task == "chat":
        spans = chatml.chat_spans(record.turns, num_images=len(record.images))
    else:
        spans = prompts.task_spans(
            record.task,
            language=record.language,
            text=record.text,
            question=record.question,
            num_images=len(record.images),
            regions=record.regions,
            more=record.more,
        )
    return [span.text for span in spans if not span.special]


def _asked(config, drawn, task, split, name) -> dict[Language, dict[str, Any]]:
    scene, rng, asked = _scene_and_questions(config, drawn, task, split, name)
    under = picture.background(rng, image_size=config.image_size)
    image = _encoded(config, scene, drawn, under)
    return {
        language: {"images": (image,), **first, "more": _asks(task, more)}
        for language, (_, [first, *more]) in asked.items()
    }


def _asks(task: str, every: Sequence[dict[str, Any]]) -> tuple[schema.Ask, ...]:
    trained_as = TRAINED_AS.get(task, task)
    return tuple(
        schema.Ask(trained_as, **{key: value for key, value in fields.items() if key != "meta"})
        for fields in every
    )


def _scene_and_questions(
    config: SceneConfig, drawn: tuple[Glyph, ...], task: str, split: Split, name: str
) -> tuple[Scene, random.Random, dict[Language, tuple[View, list[dict[str, Any]]]]]:
    """(scene, the generator for what else is random about it, fields of each thing asked)."""
    if task == "vqa":
        return _scene_with_answer(config, drawn, split, name)
    if task == "single":
        config = config._replace(max_objects=1)
    ask = _ASKED["referring" if task == "single" else task]
    often, repeat = SHOWN, REPEAT
    if split == "train":
        often, repeat = _CROWDED, _REPEAT.get(task, REPEAT)
    scene, rng = draw_scene(config, drawn, name, often=often, repeat=repeat)
    views = _views(config, drawn, split, scene)
    return scene, rng, {
        language: (view, ask(view, random.Random(f"{name}/ask/{language}"))[: _most(split)])
        for language, view in views.items()
    }  # fmt: skip


def _scene_with_answer(config, drawn, split, name):
    """The first of many scenes that has the wanted answer to a question; scenes of more than one
    object, often of a kind.
    """
    rng = random.Random(f"{name}/ask")
    wanted = vqa.want(rng, relations=0.7 if split == "train" else 0.5)  # which are harder
    repeat = _REPEAT[wanted.form]
    for look in range(_LOOKS):
        scene, after = draw_scene(config, drawn, f"{name}/{look}", often=_CROWDED, repeat=repeat)
        views = _views(config, drawn, split, scene)
        found = vqa.askable(views["en"], wanted)
        if found:
            break
    else:
        raise ValueError(f"no scene of {_LOOKS} has the answer {wanted.answer!r}: too few objects?")
    asked = {}
    for language, view in views.items():
        rng = random.Random(f"{name}/ask/{language}")
        asked[language] = view, vqa.vqa(view, wanted, rng.choice(found), rng)[: _most(split)]
    return scene, after, asked


def _most(split: Split) -> int | None:
    return None if split == "train" else 1


def _told(config, drawn, task, split, name) -> dict[Language, dict[str, Any]]:
    (about,) = random.Random(f"{name}/task").choices(tuple(_TOLD), tuple(_TOLD.values()))
    if about in ("signs", "ocr"):
        signs = {language: _of_signs(config, about, name, language) for language in LANGUAGES}
        made = {language: (seen, [fields]) for language, (_, seen, fields) in signs.items()}
    else:
        _, _, asked = _scene_and_questions(config, drawn, about, split, name)
        made = {
            language: (cells.of_scene(view), fields) for language, (view, fields) in asked.items()
        }
    return {
        language: dict(question=cells.named(seen), more=_asks(about, every), meta={"form": about})
        for language, (seen, every) in made.items()
    }


def _signs(config, drawn, task, split, name) -> dict[Language, dict[str, Any]]:
    made = {}
    for language in LANGUAGES:
        placed, _, fields = _of_signs(config, task, name, language)
        under = picture.background(random.Random(f"{name}/under"), image_size=config.image_size)
        image = draw_signs(placed, under)
        made[language] = {"images": (picture.encode(image, form=config.image_format),), **fields}
    return made


def _of_signs(config, task, name, language):
    """(signs, their cells, fields of a record about them)."""
    size = config.image_size
    rng = random.Random(f"{name}/{language}")
    placed = place_signs(rng, language=language, image_size=size, step=config.step)
    told_cells = cells.of_signs(placed, language, image_size=size, grid=config.grid)
    if task == "ocr":
        return placed, told_cells, ocr.ocr(placed, image_size=size)
    question = cells.QUESTION[language]
    return placed, told_cells, dict(question=question, text="".join(told_cells))


def _chat(config, drawn, task, split, name) -> dict[Language, dict[str, Any]]:
    form = chat.choose_form(random.Random(f"{name}/ask"))
    names = {"one": [name], "two": [f"{name}/first", f"{name}/second"], "none": []}[form]
    scenes = [_scene(config, drawn, each) for each in names]
    images = tuple(_encoded(config, scene, drawn, under) for scene, under in scenes)
    views = [_views(config, drawn, split, scene) for scene, _ in scenes]
    made = {}
    for language in LANGUAGES:
        rng = random.Random(f"{name}/ask")
        chat.choose_form(rng)
        seen = [view[language] for view in views]
        if form == "none":
            turns = chat.about_none(drawn, rng, language)
        else:
            turns = chat.about_one(seen[0], rng) if form == "one" else chat.about_two(seen, rng)
        made[language] = dict(images=images, turns=turns, meta={"form": form})
    return made


def _scene(config: SceneConfig, drawn: tuple[Glyph, ...], name: str) -> tuple[Scene, Image.Image]:
    scene, rng = draw_scene(config, drawn, name)
    return scene, picture.background(rng, image_size=config.image_size)


def _views(
    config: SceneConfig, drawn: tuple[Glyph, ...], split: Split, scene: Scene
) -> dict[Language, View]:
    unrelated = frozenset() if split == "test" else held_out_kinds(config, drawn)
    return {
        language: View(scene, drawn, language, config.image_size, unrelated, config.grid)
        for language in LANGUAGES
    }


def _encoded(
    config: SceneConfig, scene: Scene, drawn: Sequence[Glyph], under: Image.Image
) -> bytes:
    return picture.encode(picture.compose(scene, drawn, under), form=config.image_format)
