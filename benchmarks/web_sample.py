"""Captioned photographs of web size as two sources, for the input benchmarks.

Pictures are those that scikit-image carries; captions are random words, about 40 tokens, so that a
sample of the released geometry has about 298 positions, as stage 1's have.
"""

import io
import random
from pathlib import Path

from PIL import Image
from skimage import data as photographs

from data_pipelines import schema
from data_pipelines.build import shards
from data_pipelines.stream.config import SourceConfig

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket")
WORDS = (
    "a the photo of red blue large small old new city street man woman child dog cat sitting near"
    " beside under above with holding bright dark morning evening water mountain car house tree"
).split()
WEIGHTS = {"en": 0.773, "zh": 0.227}  # stage 1's


def jpegs(width: int, height: int) -> list[bytes]:
    """The photographs at one size, quality 88."""
    files = []
    for name in PHOTOS:
        picture = Image.fromarray(getattr(photographs, name)())
        out = io.BytesIO()
        picture.resize((width, height), Image.Resampling.LANCZOS).save(out, "JPEG", quality=88)
        files.append(out.getvalue())
    return files


def write(root: Path, *, size: tuple[int, int], records: int):
    """Sources of `records` samples each under `root`, with the stage's weights."""
    files, draw = jpegs(*size), random.Random(0)

    def words(mean: float, spread: float) -> str:
        return " ".join(draw.choices(WORDS, k=max(4, round(draw.gauss(mean, spread)))))

    sources = []
    for name, weight in WEIGHTS.items():
        captions = (
            schema.Record(f"{name}{n}", "caption", name, (files[n % len(files)],), words(34, 14))
            for n in range(records)
        )
        folder = _write(root / name, name, captions)
        sources.append(SourceConfig(name, folder, name, weight))
    return tuple(sources)


def _write(folder: Path, name: str, records) -> str:
    packed = (schema.pack(record) for record in records)
    shard = shards.write_shard(folder / shards.shard_name(name, index=0, count=1), packed)
    shards.write_manifest(folder, [shard], config={})
    return str(folder)
