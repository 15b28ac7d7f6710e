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
from data_pipelines.build.scenes.tasks import chat, grounding, ocr, referring, vqa
from data_pipelines.build.scenes.tasks.view import View
from qwenvl_jax.text import chatml, prompts

_ASKED: dict[str, Callable[[View, random.Random], dict[str, Any]]] = {
    "vqa": vqa.vqa,
    "grounding": grounding.grounding,
    "referring": referring.referring,
    "grounded_caption": referring.grounded_caption,
}
TASKS = (*_ASKED, "ocr", "chat")


def task_records(
    config: SceneConfig, drawn: Sequence[Glyph], *, task: str, split: Split, index: int
) -> dict[str, schema.Record]:
    """{"TASK_en": .., "TASK_zh": ..}: the same scene (in OCR, other words) and the same question.

    A scene belongs to one task, split and index; training and validation name no held-out kind in
    a relation.
    """
    make = {"ocr": _ocr, "chat": _chat}.get(task, _asked)
    name = f"{config.seed}/{split}/{task}/{index}"
    return {
        f"{task}_{language}": schema.Record(
            key=f"{name}/{language}",
            task=task,
            language=language,
            **make(config, tuple(drawn), task, split, name, language),
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


def _asked(config, drawn, task, split, name, language) -> dict[str, Any]:
    view, under = _view(config, drawn, split, name, language)
    fields = _ASKED[task](view, random.Random(f"{name}/ask"))
    return {"images": (_encoded(config, view.scene, drawn, under),), **fields}


def _ocr(config, drawn, task, split, name, language) -> dict[str, Any]:
    rng = random.Random(f"{name}/{language}")
    under = picture.background(rng, image_size=config.image_size)
    image, fields = ocr.ocr(rng, under, language)
    return {"images": (picture.encode(image, form=config.image_format),), **fields}


def _chat(config, drawn, task, split, name, language) -> dict[str, Any]:
    rng = random.Random(f"{name}/ask")
    form = chat.choose_form(rng)
    if form == "none":
        return dict(turns=chat.about_none(drawn, rng, language), meta={"form": form})
    names = [name] if form == "one" else [f"{name}/first", f"{name}/second"]
    seen = [_view(config, drawn, split, each, language) for each in names]
    views = [view for view, _ in seen]
    turns = chat.about_one(views[0], rng) if form == "one" else chat.about_two(views, rng)
    images = tuple(_encoded(config, view.scene, drawn, under) for view, under in seen)
    return dict(images=images, turns=turns, meta={"form": form})


def _view(
    config: SceneConfig, drawn: tuple[Glyph, ...], split: Split, name: str, language: Language
) -> tuple[View, Image.Image]:
    scene, rng = draw_scene(config, drawn, name)
    unrelated = frozenset() if split == "test" else held_out_kinds(config, drawn)
    under = picture.background(rng, image_size=config.image_size)
    return View(scene, drawn, language, config.image_size, unrelated), under


def _encoded(
    config: SceneConfig, scene: Scene, drawn: Sequence[Glyph], under: Image.Image
) -> bytes:
    return picture.encode(picture.compose(scene, drawn, under), form=config.image_format)
