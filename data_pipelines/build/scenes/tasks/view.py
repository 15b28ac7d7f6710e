"""A scene as one language tells it."""

from collections import Counter
from typing import NamedTuple

from data_pipelines import schema
from data_pipelines.build.scenes.captions import Language, phrase
from data_pipelines.build.scenes.glyphs import Glyph
from data_pipelines.build.scenes.kinds import Kind
from data_pipelines.build.scenes.layout import Placed, Scene
from data_pipelines.build.scenes.records import box_of


class View(NamedTuple):
    scene: Scene
    glyphs: tuple[Glyph, ...]
    language: Language
    image_size: int
    unrelated: frozenset[int]  # kinds that no relation may name here
    grid: int  # cells of a side, where the scene is told by them

    def kind(self, glyph: int) -> Kind:
        return self.glyphs[glyph].kind

    def name(self, glyph: int) -> str:
        return getattr(self.kind(glyph), self.language)

    def counts(self) -> Counter[int]:
        """How many there are of each kind, from left to right."""
        return Counter(thing.glyph for thing in self.scene.objects)

    def things(self, glyph: int) -> list[Placed]:
        return [thing for thing in self.scene.objects if thing.glyph == glyph]

    def boxes(self, glyph: int) -> tuple[schema.Box, ...]:
        return tuple(box_of(thing, self.image_size) for thing in self.things(glyph))

    def counted(self, glyph: int) -> str:
        """`two dogs`, `两个狗`."""
        return "".join(phrase(self.kind(glyph), self.counts()[glyph], self.language))

    def single(self, glyph: int) -> str:
        """`a dog`, `一个狗`."""
        return "".join(phrase(self.kind(glyph), 1, self.language))
