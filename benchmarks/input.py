"""Samples a second of one core from stored records to packed rows, beside image decoding alone.

    python benchmarks/input.py --data=runs/demo/data
    python benchmarks/input.py --workers=0,1,2

Decoding the same number of pictures, already in memory, is what no pipeline around the same decoder
can beat: the ratio says what reading, prompts, packing and stacking cost beside it. The two
alternate; medians over the rounds count, in seconds of the processor. Three geometries:

    demo      the embedded scenes at 64 px, rows of 256
    released  the scenes at 224 px, 256 queries, rows of 2,048, the Qwen vocabulary
    web       as released, but photographs of 640 x 480 with captions of web length, both ways

`padded fill` is that of the format that packing replaces, one sample a row: of 512 positions in the
released geometry, of as many as the batch's longest sample in the demo's. The scenes' captions are
short and alike, so seven of them, all that a row has slots for, fill less of a released row than
seven captioned pictures from the web do.

With `--workers`, instead of all this: samples a second by the clock, of so many worker processes on
all cores, for photographs decoded fast; the counts take turns.

How evenly pictures fall on devices is another script's, `benchmarks/balance.py`.
"""

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import web_sample
from data_pipelines.stream.config import SourceConfig, StreamConfig
from data_pipelines.stream.source import read_records
from data_pipelines.stream.stream import Stream
from qwenvl_jax.image.decode import decode

# Positions of a sample in the padded format; else the longest's.
PADDED = {"released": 512, "web exact": 512, "web fast": 512}
WEIGHTS = {"en": 0.773, "zh": 0.227}


class Result(NamedTuple):
    stream: float  # samples a second, record to batch
    decode: float  # samples a second, pictures alone
    packed: float  # share of a row's positions that hold a sample
    padded: float  # the same in the padded format


def geometries(data: Path, folder: Path) -> dict[str, StreamConfig]:
    sources = tuple(
        SourceConfig(f"scenes_{name}", str(data / "train" / f"scenes_{name}"), name, weight)
        for name, weight in WEIGHTS.items()
    )
    web = web_sample.write(folder, size=(640, 480), records=1500)
    demo = StreamConfig(
        sources=sources,
        tokenizer=str(data / "tokenizer.model"),
        seq_len=256,
        image_slots=9,
        image_size=64,
        num_queries=16,
        global_rows=16,
        virtual_shards=8,
    )
    released = dataclasses.replace(
        demo, tokenizer="", seq_len=2048, image_slots=7, image_size=224, num_queries=256
    )
    exact = dataclasses.replace(released, sources=web)
    fast = dataclasses.replace(exact, decode="fast")
    return {"demo": demo, "released": released, "web exact": exact, "web fast": fast}


def pictures(config: StreamConfig, count: int) -> list[bytes]:
    """The pictures of `count` samples in the stream's mix of sources, in stored order."""
    found = []
    for source in config.sources:
        records = read_records(source.path, limit=round(count * source.weight))
        found += [image for record in records for image in record.images]
    return found


def measure(
    config: StreamConfig, *, padded_length: int | None, rounds: int, batches: int
) -> Result:
    stream = Stream(config)
    next(stream)  # fills the look-ahead: rows after it take as many samples as they read
    files = None
    streaming, decoding, packed, padded = [], [], [], []
    for _ in range(rounds):
        start, read = time.process_time(), 0
        for _ in range(batches):
            segments = next(stream).segments
            read += int(segments.max(axis=1).sum())
            lengths = np.concatenate([np.bincount(row[row > 0])[1:] for row in segments])
            packed.append(lengths.sum() / segments.size)
            padded.append(lengths.mean() / (padded_length or lengths.max()))
        streaming.append(read / (time.process_time() - start))
        files = files or pictures(config, read)
        start = time.process_time()
        for file in files:
            decode(file, config.image_size, way=config.decode)
        decoding.append(len(files) / (time.process_time() - start))
    stream.close()
    figures = statistics.median(streaming), statistics.median(decoding)
    return Result(*figures, float(np.mean(packed)), float(np.mean(padded)))


def workers(config: StreamConfig, counts: list[int], *, rounds: int, batches: int) -> None:
    """Print what each number of worker processes gives, and its ratio to one process."""
    flags.FLAGS(sys.argv[:1])  # Grain's processes ask for them
    streams = {n: Stream(dataclasses.replace(config, num_workers=n)) for n in counts}
    rates: dict[int, list[float]] = {n: [] for n in counts}
    for _ in range(rounds):
        for count, stream in streams.items():
            next(stream)  # what the workers prepared while others had their turn
            start, read = time.perf_counter(), 0
            for _ in range(batches):
                read += int(next(stream).segments.max(axis=1).sum())
            rates[count].append(read / (time.perf_counter() - start))
    for count, stream in streams.items():
        stream.close()
        rate = statistics.median(rates[count])
        ratio = rate / statistics.median(rates[counts[0]])
        print(f"{count} workers: {rate:.0f} samples/s by the clock, {ratio:.2f} times the first")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="a built data set of scenes")
    parser.add_argument("--workers", help="numbers of worker processes, such as 0,1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=6, help="a round")
    arguments = parser.parse_args()
    if not (arguments.data or arguments.workers):
        parser.error("--data or --workers is needed")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        configs = geometries(arguments.data or folder, folder / "web")
        if arguments.workers:
            counts = [int(count) for count in arguments.workers.split(",")]
            print(f"load {os.getloadavg()[0]:.1f}; {arguments.rounds} rounds")
            fast = configs["web fast"]
            workers(fast, counts, rounds=arguments.rounds, batches=arguments.batches)
            return
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(f"one core, load {os.getloadavg()[0]:.1f}; {arguments.rounds} rounds")
        print(
            f"{'geometry':10}{'samples/s':>11}{'decode alone':>14}{'ratio':>8}"
            f"{'packed fill':>13}{'padded fill':>13}"
        )
        for name, config in configs.items():
            result = measure(
                config,
                padded_length=PADDED.get(name),
                rounds=arguments.rounds,
                batches=arguments.batches,
            )
            print(
                f"{name:10}{result.stream:11.0f}{result.decode:14.0f}"
                f"{result.stream / result.decode:8.2f}{result.packed:13.4f}{result.padded:13.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
