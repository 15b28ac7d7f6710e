"""Small crawls for the tests of cleaning: pictures that no hash takes for one another, in tars."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

WORDS = "a photograph of item number {} on a wooden table"
HANZI = "一张木桌上的第{}件东西的照片"


def picture(seed: int, size: tuple[int, int] = (128, 96), form: str = "JPEG", **options) -> bytes:
    """Soft noise, of all frequencies: different everywhere for different seeds."""
    noise_HWC = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise_HWC).resize(size, Image.Resampling.BICUBIC).save(out, form, **options)
    return out.getvalue()


def write_tar(path: Path, pairs: Iterable[tuple[str, Mapping[str, bytes]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for key, parts in pairs:
            for suffix, data in parts.items():
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def pair(seed: int, text: str, **fields) -> dict[str, bytes]:
    data = {"jpg": picture(seed), "txt": text.encode()}
    return data | ({"json": json.dumps(fields).encode()} if fields else {})


def write_crawl(root: Path, *, shards: int = 2, pairs: int = 10) -> None:
    """Sources `en` and `zh`; every third picture of `zh` is one of `en`."""
    for name, form, base in (("en", WORDS, 0), ("zh", HANZI, 100_000)):
        for shard in range(shards):
            numbers = range(shard * pairs, (shard + 1) * pairs)
            write_tar(
                root / name / f"{shard:05d}.tar",
                [
                    (f"{n:09d}", pair(n if n % 3 == 0 else base + n, form.format(n)))
                    for n in numbers
                ],
            )
