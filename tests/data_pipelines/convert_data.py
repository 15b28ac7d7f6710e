"""Annotation files of a test as a folder, and what `convert` makes of them."""

import json
from pathlib import Path

from data_pipelines.build.convert.entry import Annotations
from data_pipelines.build.convert.job import convert
from data_pipelines.build.shards import read_manifest, verify
from data_pipelines.stream.source import read_records
from tests.data_pipelines.crawl_data import picture


class Run:
    """Write files and pictures, convert them, and give (records by task, reasons)."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __call__(
        self, form, files, images=(), *, split="train", size=(200, 100), evaluation=None, together=1
    ):
        folder = self._folder / "images"
        folder.mkdir(exist_ok=True)
        for number, name in enumerate(images):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(picture(number, size))
        paths = []
        for name, value in files.items():
            path = self._folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
            paths.append(path.parent if path.parent != self._folder else path)
        out = self._folder / "out"
        annotations = Annotations(tuple(dict.fromkeys(paths)), split)
        outcome = convert(
            form, annotations, images=folder, out=out, evaluation=evaluation, together=together
        )
        records = {}
        for source, count in outcome.records.items():
            verify(out / source)
            assert read_manifest(out / source)["rejected"] == outcome.rejected
            records[source.removeprefix(f"{form}_")] = (
                read_records(out / source, limit=100) if count else []
            )
        return records, outcome.rejected


def refcoco_files():
    def ref(number, split="train", **fields):
        return {"sent_ids": [0, 1], "file_name": "COCO_train2014_000000581857_16.jpg",
                "ann_id": 1719310, "ref_id": number, "image_id": 581857, "split": split,
                "sentences": [
                    {"tokens": ["the", "lady"], "raw": "THE LADY", "sent_id": 2 * number,
                     "sent": "the lady"},
                    {"tokens": ["lady"], "raw": "lady", "sent_id": 2 * number + 1, "sent": "lady"},
                ], "category_id": 1} | fields  # fmt: skip

    return {
        "refs(unc).json": [ref(0), ref(1, "testA"), ref(2, ann_id=5), ref(3, image_id=5)],
        "instances.json": {
            "info": {}, "licenses": [], "categories": [],
            "images": [{"license": 1, "file_name": "COCO_train2014_000000581857.jpg",
                        "height": 480, "width": 640, "id": 581857}],
            "annotations": [{"segmentation": [], "area": 1.0, "iscrowd": 0, "image_id": 581857,
                             "bbox": [64.0, 48.0, 320.0, 240.0], "category_id": 1, "id": 1719310}],
        },
    }  # fmt: skip
