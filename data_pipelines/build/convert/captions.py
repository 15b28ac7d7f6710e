"""Captions of photographs: COCO."""

from collections.abc import Iterator

from data_pipelines.build.convert.entry import (
    Annotations,
    Entry,
    EntryError,
    each,
    field,
    load_parts,
    text_field,
)
from data_pipelines.build.sources import Bad


def coco_captions(source: Annotations) -> Iterator[Entry | Bad]:
    """`captions_train2017.json` (https://cocodataset.org/#format-data): every caption is a sample.

    The paper's table keeps all 0.6 M of COCO, five a picture: its rule of the longest caption did
    not touch them.
    """
    images, annotations = load_parts(source.paths, ("images", list), ("annotations", list))
    names = {}
    for image in images:
        try:
            names[field(image, "id", int)] = text_field(image, "file_name")
        except EntryError:
            continue  # its captions are then counted as without an image

    def read(item):
        name = names.get(field(item, "image_id", int))
        if name is None:
            raise EntryError("no_image")
        key = f"coco/{field(item, 'id', int)}"
        yield Entry(key, (name,), "caption", text_field(item, "caption"))

    yield from each(annotations, read)
