"""Cleaning: precision and recall of every rule on a crawl with known defects, and pairs a second.

    python benchmarks/build.py --work=runs/noisy --pairs=100000 --processes=1,2

Writes the crawl once (a shard that is there is kept), cleans it, and compares the list of rejects
with the defects that were put in; then the whole job's rate, from tar to shards, for each number of
processes. Speeds of the single stages are `build_cost.py`'s.
"""

import argparse
import gzip
import json
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import noisy_crawl
from data_pipelines.build.clean import clean
from data_pipelines.build.engine import local_engine
from data_pipelines.build.settings import check_settings

COPIES = 10
PAGE = dict(
    sources=dict(
        en=dict(path="en", language="en", min_clip_score=0.2),
        zh=dict(path="zh", language="zh", min_clip_score=0.2),
    ),
    duplicates=dict(text_copies=COPIES, across_languages=True),
)


def quality(out: Path, pairs: int) -> None:
    """Print a line a rule: precision and recall of the rejects under its name."""
    expected = noisy_crawl.labels(pairs, text_copies=COPIES)
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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--processes", default="1,2", help="numbers of them, to compare")
    arguments = parser.parse_args()
    crawl, shards = arguments.work / "crawl", arguments.pairs // noisy_crawl.SHARD
    if shards < 2:  # a shard for each language
        parser.error(f"--pairs={arguments.pairs}: at least {2 * noisy_crawl.SHARD}")
    for shard in range(shards):
        noisy_crawl.write_shard(crawl, shard)
    noisy_crawl.write_evaluation(arguments.work / "evaluation")
    settings = check_settings(PAGE | {"evaluation": str(arguments.work / "evaluation")})
    walls = {}
    for processes in map(int, arguments.processes.split(",")):
        out = arguments.work / f"out{processes}"
        shutil.rmtree(out, ignore_errors=True)
        start = time.monotonic()
        clean(settings, source_root=crawl, out=out, engine=local_engine(processes))
        walls[processes] = time.monotonic() - start  # workers' start and the report are in it
    quality(out, shards * noisy_crawl.SHARD)
    print((out / "report.md").read_text("utf-8"))
    (first, base), *_ = walls.items()
    for processes, wall in walls.items():
        rate = shards * noisy_crawl.SHARD / wall
        print(f"tar to shards, {processes} process(es): {wall:.1f} s, {rate:,.0f} pairs/s", end="")
        print(f", {base / wall:.2f} times the rate of {first}")


if __name__ == "__main__":
    main()
