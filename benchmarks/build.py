"""Cleaning: precision and recall of every rule on a crawl with known defects, and pairs a second.

    python benchmarks/build.py --work=runs/noisy --pairs=100000 --processes=2

Writes the crawl once (a shard that is there is kept), cleans it, and compares the list of rejects
with the defects that were put in. Then speeds on one process, medians of alternating rounds: text,
size and hash rules before any decode; the whole image stage beside plain full decoding; and the
whole job from tar to shards on 1 and 2 processes. Last, what five billion pairs would take.
"""

import argparse
import gzip
import io
import json
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from PIL import Image

from benchmarks import noisy_crawl
from data_pipelines.build import rules
from data_pipelines.build.clean import clean
from data_pipelines.build.engine import local_engine
from data_pipelines.build.hashes import bytes_key, picture_key, text_key
from data_pipelines.build.settings import check_settings
from data_pipelines.build.sources import Raw, read_shard

COPIES = 10
PAGE = dict(
    sources=dict(
        en=dict(path="en", language="en", min_clip_score=0.2),
        zh=dict(path="zh", language="zh", min_clip_score=0.2),
    ),
    duplicates=dict(text_copies=COPIES),
)


def quality(out: Path, pairs: int) -> None:
    """Print a line a rule: precision and recall of the rejects under its name."""
    expected, copies = {}, Counter()
    for i in range(pairs):
        source, name = noisy_crawl.source_of(i // noisy_crawl.SHARD), noisy_crawl.defect(i)
        if name == "same_text":
            copies[source] += 1
            name = name if copies[source] > COPIES else None
        if name is not None:
            expected[i] = name
    found = {}
    for path in out.glob("*/*.rejects.jsonl.gz"):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            key, rule = json.loads(line)
            found[int(key)] = rule
    print(f"{'rule':26} defects  precision  recall")
    for rule in sorted(set(expected.values()) | set(found.values())):
        put = {i for i, name in expected.items() if name == rule}
        got = {i for i, name in found.items() if name == rule}
        precision = len(put & got) / len(got) if got else float("nan")
        recall = len(put & got) / len(put) if put else float("nan")
        print(f"{rule:26} {len(put):7}  {precision:9.4f}  {recall:6.4f}")
    wrong = sum(i not in expected for i in found)
    print(f"good pairs dropped: {wrong} of {pairs - len(expected)}")


def rate(works: dict[str, Callable[[], None]], count: int, rounds: int = 5) -> dict[str, float]:
    """Items a second, medians over rounds that take turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.process_time()
            work()
            times[name].append(time.process_time() - start)
    return {name: count / statistics.median(values) for name, values in times.items()}


def speeds(folder: Path) -> tuple[float, float]:
    settings = check_settings(PAGE).sources["en"]
    raws = [r for r in read_shard(folder / "en" / "00000.tar") if isinstance(r, Raw)]
    good = [r for r in raws if noisy_crawl.defect(int(r.key)) is None]
    # 83 kB, a usual web picture: the same header, and bytes behind the picture's end to hash.
    heavy = [r._replace(image=r.image + bytes(83_000 - len(r.image))) for r in good[:200]]

    def early(pairs: list[Raw]) -> None:
        for raw in pairs:
            pair = rules.Pair(raw.key, raw.image, raw.text, raw.clip_score)
            if rules.apply(pair, settings)[0] is None:
                bytes_key(pair.image)
                text_key(pair.text)

    def decode(images: list[bytes]) -> None:
        for image in images:
            with Image.open(io.BytesIO(image)) as picture:
                picture.convert("RGB")

    def look(images: list[bytes]) -> None:
        for image in images:
            picture_key(image)

    for title, pairs in (("this crawl", raws), ("good pairs of it", good), ("83 kB a pair", heavy)):
        made = rate({"early": partial(early, pairs)}, len(pairs))["early"]
        print(f"text, size and hash rules, {title}: {made:,.0f} pairs/s/core")
    out = io.BytesIO()
    Image.open(io.BytesIO(good[0].image)).resize((640, 480)).save(out, "JPEG", quality=90)
    images = [out.getvalue()] * 50
    speed = rate({"decode": partial(decode, images), "look": partial(look, images)}, 50)
    print(
        f"JPEG 640 x 480, {len(images[0]) // 1000} kB: full decode {speed['decode']:,.0f}/s/core, "
        f"image stage {speed['look']:,.0f}/s/core, ratio {speed['look'] / speed['decode']:.2f}"
    )
    return made, speed["look"]


def paper(early: float, look: float) -> None:
    """Five billion pairs, 83 kB each, half decoded, 28 % kept; on 100 machines of 32 cores."""
    pairs, kept, decoded = 5e9, 1.4e9, 2.5e9
    hours = (pairs / early + decoded / look) / 3600
    print(f"5 B pairs: {hours:,.0f} core-hours of rules and image stage")
    print(f"  read {pairs * 83e3 / 1e12:,.0f} TB, written {kept * 83e3 / 1e12:,.0f} TB")
    print(f"  100 machines x 32 cores: {hours / 3200:.2f} h of computing")
    print(f"  keys of {decoded:.1e} survivors of the rules: {decoded * 83 / 1e9:,.0f} GB")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    crawl, shards = arguments.work / "crawl", arguments.pairs // noisy_crawl.SHARD
    with ProcessPoolExecutor(arguments.processes) as pool:
        list(pool.map(partial(noisy_crawl.write_shard, crawl), range(shards)))
    walls = {}
    for processes in (1, 2):
        out = arguments.work / f"out{processes}"
        shutil.rmtree(out, ignore_errors=True)
        start = time.monotonic()
        clean(check_settings(PAGE), source_root=crawl, out=out, engine=local_engine(processes))
        walls[processes] = time.monotonic() - start  # workers' start and the report are in it
    quality(out, shards * noisy_crawl.SHARD)
    print((out / "report.md").read_text("utf-8"))
    for processes, wall in walls.items():
        print(f"tar to shards, {processes} process(es): {shards * 1000 / wall:,.0f} pairs/s")
    print(f"1 -> 2 processes: {walls[1] / walls[2]:.2f}x")
    paper(*speeds(crawl))


if __name__ == "__main__":
    main()
