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
from data_pipelines.build.scenes.records import draw_scene, held_out_kinds
from data_pipelines.build.scenes.tasks import chat, grounding, ocr, referring, signs, told, vqa
from data_pipelines.build.scenes.tasks.view import View
from qwenvl_jax.text import chatml, prompts

_ASKED: dict[str, Callable[[View, random.Random], dict[str, Any]]] = {
    "vqa": vqa.vqa,
    "grounding": grounding.grounding,
    "referring": referring.referring,
    "grounded_caption": referring.grounded_caption,
}
# `signs` are captions of what `ocr` reads; `single` is referring where there is one object;
# `told` is a scene as text, and a question about it.
TASKS = (*_ASKED, "single", "ocr", "signs", "chat")
_TOLD = (*_ASKED, "signs")
_TOLD_OFTEN = (3, 2, 3, 1, 1)
TRAINED_AS = {"scenes": "caption", "signs": "caption", "single": "referring", "told": "text"}


def task_records(
    config: SceneConfig, drawn: Sequence[Glyph], *, task: str, split: Split, index: int
) -> dict[str, schema.Record]:
    """{"TASK_en": .., "TASK_zh": ..}: the same scene (on signs, other words) and the same question.

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
            regions=record.regions,
        )
    return [span.text for span in spans if not span.special]


def _asked(config, drawn, task, split, name) -> dict[Language, dict[str, Any]]:
    if task == "single":
        config = config._replace(max_objects=1)
    ask = _ASKED[TRAINED_AS.get(task, task)]
    scene, under = _scene(config, drawn, name)
    image = _encoded(config, scene, drawn, under)
    return {
        language: {"images": (image,), **ask(view, random.Random(f"{name}/ask"))}
        for language, view in _views(config, drawn, split, scene).items()
    }


def _told(config, drawn, task, split, name) -> dict[Language, dict[str, Any]]:
    (about,) = random.Random(f"{name}/task").choices(_TOLD, _TOLD_OFTEN)
    if about == "signs":
        rngs = {language: random.Random(f"{name}/{language}") for language in LANGUAGES}
        return {language: told.told_signs(rng, language) for language, rng in rngs.items()}
    scene, _ = draw_scene(config, drawn, name)
    made = {}
    for language, view in _views(config, drawn, split, scene).items():
        asked = _ASKED[about](view, random.Random(f"{name}/ask"))
        made[language] = told.told(view, about, asked, grid=config.grid)
    return made


def _signs(config, drawn, task, split, name) -> dict[Language, dict[str, Any]]:
    made = {}
    for language in LANGUAGES:
        rng = random.Random(f"{name}/{language}")
        under = picture.background(rng, image_size=config.image_size)
        image, fields = ocr.ocr(rng, under, language)
        if task == "signs":
            words = [region.phrase for region in fields["regions"]]
            fields = {"text": signs.says(words, language)}
        made[language] = {"images": (picture.encode(image, form=config.image_format),), **fields}
    return made


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
        language: View(scene, drawn, language, config.image_size, unrelated)
        for language in LANGUAGES
    }


def _encoded(
    config: SceneConfig, scene: Scene, drawn: Sequence[Glyph], under: Image.Image
) -> bytes:
    return picture.encode(picture.compose(scene, drawn, under), form=config.image_format)
