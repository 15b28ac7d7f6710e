"""The data set's kinds, and what a test reads of its texts and boxes."""

import functools

import numpy as np

from data_pipelines.build.scenes import glyphs, kinds
from data_pipelines.build.scenes.config import SceneConfig

CONFIG = SceneConfig()
MANY = 120


@functools.cache
def all_drawn():
    """The glyphs of the default data set."""
    return tuple(glyphs.usable(kinds.all_kinds(), count=CONFIG.kinds))


def named(text, drawn, language):
    """Names of kinds in a text, in their order; no name is part of another."""
    found = {text.find(getattr(g.kind, language)): getattr(g.kind, language) for g in drawn}
    return [name for place, name in sorted(found.items()) if place >= 0]


def asks(record):
    """The record, and one for each thing more that it asks."""
    yield record._replace(more=())
    for ask in record.more:
        yield record._replace(**ask._asdict(), more=())


def middle(box):
    return np.array([box[0] + box[2], box[1] + box[3]]) / 2
