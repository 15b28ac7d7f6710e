"""Sample i of a split: a picture with its captions, or a text about a scene that is never drawn."""

import random
from collections.abc import Sequence

from data_pipelines import schema
from data_pipelines.build.scenes import captions, hints, layout, picture
from data_pipelines.build.scenes.captions import LANGUAGES, Language
from data_pipelines.build.scenes.config import SceneConfig
from data_pipelines.build.scenes.glyphs import Glyph
from data_pipelines.build.scenes.layout import Split

# How often a scene is to hold one, two, three, four objects. In text they are many, and small, so
# that they find room: which name comes next is to be learnt only where some have been said.
SHOWN = (4, 3, 2, 1)
REPEAT = 0.25  # chance that an object is of the kind of the one before it
_TOLD = (2, 3, 3, 2)


def caption_records(
    config: SceneConfig, drawn: Sequence[Glyph], *, split: Split, index: int
) -> dict[str, schema.Record]:
    """{"scenes_en": .., "scenes_zh": ..}: one picture with its two captions."""
    scene, rng = draw_scene(config, drawn, f"{config.seed}/{split}/scenes/{index}")
    held_out = held_out_kinds(config, drawn)
    chosen = captions.choose_layout(scene, rng, held_out=held_out, allow_held_out=split == "test")
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
                schema.Region(names[thing.glyph], (box_of(thing, config.image_size),))
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
    drawn: Sequence[Glyph],
    *,
    split: Split,
    language: Language,
    index: int,
) -> tuple[str, str, list[str]]:
    """(scene's name, form, chunks) of a text-only sample; the scene is never drawn."""
    name = f"{config.seed}/{split}/text_{language}/{index}"
    scene, rng = draw_scene(config, drawn, name, scale=0.5, often=_TOLD)
    chosen = captions.choose_layout(
        scene, rng, held_out=held_out_kinds(config, drawn), allow_held_out=split == "test"
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


def draw_scene(
    config: SceneConfig,
    drawn: Sequence[Glyph],
    name: str,
    *,
    scale: float = 1.0,
    often: Sequence[int] = SHOWN,
    repeat: float = REPEAT,
) -> tuple[layout.Scene, random.Random]:
    """The scene of a name, and the generator for what else is random about it."""
    return layout.sample_scene(
        drawn,
        name=name,
        image_size=config.image_size,
        max_objects=config.max_objects,
        object_size=(scale * config.object_min, scale * config.object_max),
        often=often,
        repeat=repeat,
        step=config.step,
    )


def held_out_kinds(config: SceneConfig, drawn: Sequence[Glyph]) -> frozenset[int]:
    """Indices of the kinds that training never shows in a relation."""
    every = config.held_out_every
    return frozenset(range(every - 1, len(drawn), every) if every else ())


def box_of(thing: layout.Placed, size: int) -> schema.Box:
    """An object's box as fractions of a picture of `size` pixels."""
    right, bottom = thing.x + thing.width, thing.y + thing.height
    return (thing.x / size, thing.y / size, right / size, bottom / size)
