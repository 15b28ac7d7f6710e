"""Pictures a second of a core, the fast way of `qwenvl_jax/image` beside the exact one.

    python benchmarks/decode_image.py

The files are made here: the photographs that scikit-image carries, brought to each size, JPEG of
quality 88. The exact way is what anyone writes with Pillow: full decode, RGB, bicubic. The two
alternate, and the ratio is that of their medians over the rounds; seconds are the processor's, so
that other work on the machine counts as little as it can. `dB` is the mean (and the worst
picture's) peak signal to noise of the fast way's pixels against the exact ones'. `--data` adds the
pictures of a built data set, as they are stored.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import web_sample
from data_pipelines.stream.source import read_records
from qwenvl_jax.image.decode import Way, decode

SIZES = ((500, 375), (640, 480), (800, 600), (1024, 768), (1600, 1200))


def rate(files: list[bytes], size: int, way: Way) -> float:
    start = time.process_time()
    for file in files:
        decode(file, size, way=way)
    return len(files) / (time.process_time() - start)


def decibels(file: bytes, size: int) -> float:
    exact, quick = (decode(file, size, way=way).astype(float) for way in ("exact", "fast"))
    return 10 * np.log10(255**2 / max(np.mean((exact - quick) ** 2), 1e-6))


def report(name: str, files: list[bytes], rounds: int) -> None:
    for size in (224, 448):
        pairs = [(rate(files, size, "exact"), rate(files, size, "fast")) for _ in range(rounds)]
        exact, quick = (statistics.median(way) for way in zip(*pairs, strict=True))
        noise = [decibels(file, size) for file in files]
        kilobytes = np.mean([len(file) for file in files]) / 1000
        print(
            f"{name:12}{kilobytes:7.0f}{size:6}{exact:10.0f}{quick:10.0f}{quick / exact:8.2f}"
            f"{np.mean(noise):8.1f} ({min(noise):.1f})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="a source folder of a built data set")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(f"one core, load {os.getloadavg()[0]:.1f}; medians of {arguments.rounds} rounds")
    print(f"{'files':12}{'kB':>7}{'side':>6}{'exact/s':>10}{'fast/s':>10}{'ratio':>8}{'dB':>8}")
    for width, height in SIZES:
        report(f"{width}x{height}", web_sample.jpegs(width, height), arguments.rounds)
    if arguments.data:
        records = read_records(arguments.data, limit=50)
        report(arguments.data.name, [f for r in records for f in r.images], arguments.rounds)


if __name__ == "__main__":
    main()
