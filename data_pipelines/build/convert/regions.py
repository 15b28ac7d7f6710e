"""Phrases with boxes: the regions of Visual Genome, and RefCOCO, RefCOCO+ and RefCOCOg.

Every phrase gives two samples, of the tasks referring (phrase to box) and grounded_caption (box to
phrase), as the paper's stage 2 uses them.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from data_pipelines.build.convert.entry import (
    Annotations,
    Entry,
    EntryError,
    each,
    field,
    load_parts,
    number,
    text_field,
)
from data_pipelines.build.convert.questions import flatten, genome_images
from data_pipelines.build.sources import Bad
from data_pipelines.schema import Box, Region


def both_ways(key: str, image: bytes | tuple[str, ...], region: Region, **more) -> Iterator[Entry]:
    """A phrase with its boxes as a sample of each of the two tasks."""
    yield Entry(f"{key}/referring", image, "referring", regions=(region,), **more)
    yield Entry(f"{key}/grounded_caption", image, "grounded_caption", region.phrase,
                regions=(region,), **more)  # fmt: skip


def visual_genome(source: Annotations) -> Iterator[Entry | Bad]:
    """`region_descriptions.json` (https://homes.cs.washington.edu/~ranjay/visualgenome/api.html)."""
    (images,) = load_parts(source.paths, ("", list))

    def read(item):
        phrase = text_field(item, "phrase")
        sides = (number(item.get(n), f"bad_{n}") for n in ("x", "y", "width", "height"))
        x, y, width, height = sides
        region = Region(phrase, ((x, y, x + width, y + height),))
        names = genome_images(field(item, "image_id", int))
        yield from both_ways(f"vg/{field(item, 'region_id', int)}", names, region)

    yield from each(flatten(images, "regions"), read)


def refcoco(source: Annotations) -> Iterator[Entry | Bad]:
    """`refs(unc).json` (`refs(umd).json` for RefCOCOg) and `instances.json`, one of each.

    https://github.com/lichengunc/refer has them as a pickle and a JSON file; the pickle, a list of
    objects with `sentences`, must be saved as JSON first. One sample of each task a sentence.
    """
    refs, images, objects = load_parts(
        source.paths, ("", list), ("images", list), ("annotations", list)
    )
    places, files = {}, {}
    for item in objects:
        try:
            places[field(item, "id", int)] = _corners(field(item, "bbox", list))
        except EntryError:
            continue  # references to it are counted as without a box
    for item in images:
        try:
            name = text_field(item, "file_name")
            size = tuple(number(item.get(n), f"bad_{n}") for n in ("width", "height"))
            files[field(item, "id", int)] = name, size
        except EntryError:
            continue

    def read(item):
        if text_field(item, "split") != source.split:
            raise EntryError("other_split")
        box = places.get(field(item, "ann_id", int))
        image = files.get(field(item, "image_id", int))
        if box is None or image is None:
            raise EntryError("no_box" if box is None else "no_image")
        ref = field(item, "ref_id", int)

        def read_one(sentence):
            key = f"ref/{ref}/{field(sentence, 'sent_id', int)}"
            region = Region(text_field(sentence, "sent"), (box,))
            yield from both_ways(key, (image[0],), region, extent=image[1])

        yield from each(field(item, "sentences", list), read_one, where=f"{ref} sentence")

    yield from each(refs, read)


def _corners(box: Sequence[Any]) -> Box:
    """COCO's x, y, width, height to corners."""
    if len(box) != 4:
        raise EntryError("bad_bbox")
    x, y, width, height = (number(v, "bad_bbox") for v in box)
    return x, y, x + width, y + height
