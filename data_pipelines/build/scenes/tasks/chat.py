"""Dialogues about one scene, about two, or about none, as stage 3 reads them."""

import random
from collections.abc import Sequence

from data_pipelines.build.scenes.captions import Language, caption
from data_pipelines.build.scenes.glyphs import Glyph
from data_pipelines.build.scenes.tasks.referring import refer
from data_pipelines.build.scenes.tasks.view import View
from data_pipelines.build.scenes.tasks.vqa import count, related, relation
from data_pipelines.schema import Turn
from qwenvl_jax.text.chatml import picture_lines
from qwenvl_jax.text.markup import format_marked

FORMS = ("one", "two", "none")
_WEIGHTS = (6, 2, 2)
_TURNS = (1, 2, 3)


def choose_form(rng: random.Random) -> str:
    """How many pictures a dialogue shows: one, two or none."""
    return rng.choices(FORMS, _WEIGHTS)[0]


def about_one(view: View, rng: random.Random) -> tuple[Turn, ...]:
    """Up to three different questions about a picture, which the first one shows."""
    asks = [_describe, count, _locate]
    if related(view):
        asks.append(_relate)
    said: list[tuple[str, str]] = []
    for ask in rng.sample(asks, rng.choice(_TURNS)):
        said.append(ask(view, rng))
    return _turns(picture_lines(1), said)


def about_two(views: Sequence[View], rng: random.Random) -> tuple[Turn, ...]:
    """Which of two pictures has a kind that the other has not; then a question about one."""
    first, second = views
    odd = [(g, n) for n, (a, b) in enumerate(((first, second), (second, first)))
           for g in a.counts() if g not in b.counts()]  # fmt: skip
    zh = first.language == "zh"
    if odd:
        glyph, where = rng.choice(odd)
        ask = f"哪张图里有{first.name(glyph)}？" if zh else (
            f"Which picture shows {first.single(glyph)}?"
        )  # fmt: skip
        said = [(ask, f"图{where + 1}。" if zh else f"Picture {where + 1}.")]
    else:
        said = [("两张图里的东西一样吗？", "一样。") if zh else
                ("Do both pictures show the same kinds of things?", "Yes.")]  # fmt: skip
    number = rng.randrange(2)
    text = caption(views[number].scene, views[number].glyphs, layout="list",
                   language=first.language).text  # fmt: skip
    which = f"图{number + 1}里有什么？" if zh else f"What is in picture {number + 1}?"
    return _turns(picture_lines(2), [*said, (which, _sentence(text, zh))])


def about_none(glyphs: Sequence[Glyph], rng: random.Random, language: Language) -> tuple[Turn, ...]:
    """Names of things in the other language: a dialogue without a picture."""
    said = []
    for glyph in rng.sample(range(len(glyphs)), min(rng.choice(_TURNS), len(glyphs))):
        kind = glyphs[glyph].kind
        if language == "zh":
            said.append((f"“{kind.zh}”用英语怎么说？", kind.en))
        else:
            said.append((f'What is "{kind.en}" in Chinese?', kind.zh))
    return _turns("", said)


def _describe(view: View, rng: random.Random) -> tuple[str, str]:
    zh = view.language == "zh"
    text = caption(view.scene, view.glyphs, layout="there", language=view.language).text
    return "请描述这张图片。" if zh else "Describe the picture.", _sentence(text, zh)


def _locate(view: View, rng: random.Random) -> tuple[str, str]:
    region = refer(view, rng.choice(list(view.counts())), rng)
    zh = view.language == "zh"
    ask = f"框出{region.phrase}。" if zh else f"Point at {region.phrase}."
    return ask, format_marked(region.phrase, boxes=region.boxes)


def _relate(view: View, rng: random.Random) -> tuple[str, str]:
    return relation(view, *rng.choice(related(view)))


def _sentence(text: str, zh: bool) -> str:
    return text + "。" if zh else text[0].upper() + text[1:] + "."


def _turns(pictures: str, said: Sequence[tuple[str, str]]) -> tuple[Turn, ...]:
    turns = [
        turn for ask, answer in said for turn in (Turn("user", ask), Turn("assistant", answer))
    ]
    turns[0] = Turn("user", pictures + turns[0].text)
    return tuple(turns)
