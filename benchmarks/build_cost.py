"""Speeds of the stages of cleaning on one core, and what five billion pairs would take by them.

    python benchmarks/build_cost.py

Medians of rounds, CPU time of this process: text, size and hash rules before any decode; the image
stage beside plain full decoding; archives read and shards written; near pictures compared.
"""

import io
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image

from benchmarks import noisy_crawl
from data_pipelines.build import rules
from data_pipelines.build.duplicates import KEYS, decide
from data_pipelines.build.engine import local_engine
from data_pipelines.build.hashes import bytes_key, picture_key, text_key
from data_pipelines.build.settings import DuplicateSettings, SourceSettings
from data_pipelines.build.shards import write_shard
from data_pipelines.build.sources import Raw, read_shard

PAIR = 83_000  # bytes of a usual web picture
SETTINGS = SourceSettings("en", "en", min_clip_score=0.2)


def rate(work: Callable[[], object], count: float, rounds: int = 7) -> float:
    """Items a second of CPU time."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return count / statistics.median(times)


def early(pairs: list[Raw]) -> None:
    for raw in pairs:
        pair = rules.Pair(raw.key, raw.image, raw.text, raw.clip_score)
        if rules.apply(pair, SETTINGS)[0] is None:
            bytes_key(pair.image)
            text_key(pair.text)


def decode(images: list[bytes]) -> None:
    for image in images:
        with Image.open(io.BytesIO(image)) as picture:
            picture.convert("RGB")


def rules_rate(folder: Path) -> float:
    """Print for several kinds of pairs, return that of good ones with 83 kB from main memory."""
    noisy_crawl.write_shard(folder, 0)
    raws = [r for r in read_shard(folder / "en" / "00000.tar") if isinstance(r, Raw)]
    good = [r for r in raws if noisy_crawl.defect(int(r.key)) is None]
    # The same header, and bytes behind the picture's end to hash.
    heavy = [r._replace(image=r.image + bytes(PAIR - len(r.image))) for r in good]
    kinds = {
        "all of a crawl of 96 px": raws,
        "its good ones": good,
        # A job judges a pair whose bytes it has just read: they are in the cache, as here.
        "good, 83 kB, just read": heavy[:40] * 12,
        "good, 83 kB, from main memory": heavy,
    }
    for title, pairs in kinds.items():
        made = rate(lambda pairs=pairs: early(pairs), len(pairs))
        print(f"text, size and hash rules, {title}: {made:,.0f} pairs/s")
    # What those bytes cost by themselves: every rule that reads a whole picture is above it.
    ways = {"hashed": lambda raw: bytes_key(raw.image), "read": lambda raw: _read(raw.image)}
    for title, way in ways.items():
        alone = rate(lambda way=way: [way(raw) for raw in heavy], len(heavy))
        print(f"83 kB from main memory {title} and no more: {alone:,.0f} pairs/s")
    return made


def _read(data: bytes) -> None:
    """Touch every byte once, eight at a time."""
    np.bitwise_or.reduce(np.frombuffer(data, np.uint64, len(data) // 8))


def image_rate() -> float:
    """Different pictures of 640 x 480, of soft noise, whose files are of a usual size."""
    images = []
    for seed in range(40):
        noise_HWC = np.random.default_rng(seed).integers(0, 255, (120, 160, 3), dtype=np.uint8)
        out = io.BytesIO()
        Image.fromarray(noise_HWC).resize((640, 480)).save(out, "JPEG", quality=85)
        images.append(out.getvalue())
    whole = rate(lambda: decode(images), len(images))
    look = rate(lambda: [picture_key(image) for image in images], len(images))
    size = sum(map(len, images)) / len(images) / 1000
    print(
        f"JPEG 640 x 480, {size:.0f} kB: full decode {whole:,.0f}/s, image stage {look:,.0f}/s,"
        f" ratio {look / whole:.2f}"
    )
    return look


def file_rates(folder: Path) -> tuple[float, float]:
    """Pairs of 83 kB read from a tar, and records of 83 kB written with their sha256."""
    path, noise = folder / "heavy.tar", np.random.default_rng(0)
    with tarfile.open(path, "w") as archive:
        for n in range(500):
            for suffix, data in (("jpg", noise.bytes(PAIR)), ("txt", b"a text"), ("json", b"{}")):
                member = tarfile.TarInfo(f"{n:06d}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    images = [raw.image for raw in read_shard(path)]
    read = rate(lambda: sum(1 for _ in read_shard(path)), len(images))
    written = rate(lambda: write_shard(folder / "heavy.array_record", images), len(images))
    print(f"pairs of 83 kB: read from tar {read:,.0f}/s, written with sha256 {written:,.0f}/s")
    return read, written


def near_rate(folder: Path, rows: int = 500_000, values: int = 64) -> float:
    """Candidate pairs of near pictures compared a second, in bands of few values."""
    noise = np.random.default_rng(0)
    keys = np.zeros(rows, KEYS)
    for field in ("name", "image", "text"):
        keys[field] = noise.integers(0, 2**63, (rows, 2)).view("V16")[:, 0]
    keys["bands"] = noise.integers(0, 65_536, (rows, 16))
    keys["bands"][:, :2] %= values
    keys["seen"] = True
    np.save(folder / "keys.npy", keys)
    pairs = 2 * rows**2 / values / 2
    start = time.process_time()
    decide([Path("keys.npy")], settings=DuplicateSettings(), work=folder, engine=local_engine(1))
    made = pairs / (time.process_time() - start)
    print(f"duplicates among {rows:,} records, {pairs:.1e} candidate pairs: {made:,.0f} pairs/s")
    return made


def paper(early: float, look: float, read: float, written: float, near: float) -> None:
    """Five billion pairs, 83 kB each, half decoded, 28 % kept; on 100 machines of 32 cores."""
    pairs, left, kept = 5e9, 2.5e9, 1.4e9
    stages = {
        "reading archives": pairs / read,
        "text, size and hash rules": pairs / early,
        "image stage": left / look,
        "writing survivors, then what is kept": (left + kept) / written,
        "near pictures (16 bands, hashes spread evenly)": 16 * left**2 / 2**16 / 2 / near,
    }
    print("5 B pairs, core-hours:")
    for name, seconds in stages.items():
        print(f"  {name}: {seconds / 3600:,.0f}")
    hours = sum(stages.values()) / 3600
    moved = (pairs + 2 * left + kept) * PAIR
    print(f"  together {hours:,.0f}; {hours / 3200:.1f} h on 100 machines of 32 cores")
    print(f"  {pairs * PAIR / 1e12:,.0f} TB in, {kept * PAIR / 1e12:,.0f} TB out; with work files")
    print(f"  {moved / 1e12:,.0f} TB moved: {moved / 100 / 1e9 / 3600:.1f} h at 1 GB/s a machine")
    # Parameters of the blocks of ViT-B/32 and its text tower, tokens, two operations each.
    flops = 2 * (85.1e6 * 50 + 37.8e6 * 77)
    hours = left * flops / (0.4 * 989e12) / 3600
    print(f"  CLIP ViT-B/32 over all that the rules leave, {flops / 1e9:.1f} GFLOP a pair:")
    print(f"  {hours:.0f} hours of one H100 at an ASSUMED 40 % of its bf16 peak, not measured")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paper(rules_rate(folder), image_rate(), *file_rates(folder), near_rate(folder))


if __name__ == "__main__":
    main()
