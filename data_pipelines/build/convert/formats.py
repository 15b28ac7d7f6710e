"""The formats that `convert` knows."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from data_pipelines.build.convert.benchmarks import (
    caption_references,
    scienceqa,
    seed_bench,
    vizwiz,
)
from data_pipelines.build.convert.captions import coco_captions
from data_pipelines.build.convert.entry import Annotations, Entry
from data_pipelines.build.convert.grit import grit
from data_pipelines.build.convert.questions import gqa, vgqa, vqav2
from data_pipelines.build.convert.regions import refcoco, visual_genome
from data_pipelines.build.convert.text_questions import ai2d, chartqa, docvqa, ocr_vqa, textvqa
from data_pipelines.build.sources import Bad
from data_pipelines.schema import Task


class Format(NamedTuple):
    """A reader of annotations, and the tasks of the samples that it yields.

    It raises ValueError where its files as a whole are not of the format.
    """

    read: Callable[[Annotations], Iterator[Entry | Bad]]
    tasks: tuple[Task, ...] = ("vqa",)


_BOTH_WAYS: tuple[Task, ...] = ("referring", "grounded_caption")
FORMATS = {
    "coco_captions": Format(coco_captions, ("caption",)),
    "vqav2": Format(vqav2),
    "gqa": Format(gqa),
    "vgqa": Format(vgqa),
    "textvqa": Format(textvqa),
    "docvqa": Format(docvqa),
    "ocr_vqa": Format(ocr_vqa),
    "chartqa": Format(chartqa),
    "ai2d": Format(ai2d),
    "visual_genome": Format(visual_genome, _BOTH_WAYS),
    "refcoco": Format(refcoco, _BOTH_WAYS),
    "caption_references": Format(caption_references, ("caption",)),
    "vizwiz": Format(vizwiz),
    "scienceqa": Format(scienceqa),
    "seed_bench": Format(seed_bench),
    "grit": Format(grit, ("grounding", *_BOTH_WAYS)),
}
