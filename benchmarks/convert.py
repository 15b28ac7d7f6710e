"""Import and export of a synthetic model of the released widths: peak memory and speed.

    python benchmarks/convert.py --folder=DIR                 a narrow model, anywhere in seconds
    python benchmarks/convert.py --folder=DIR --depth=4       released widths, 4 blocks a tower
    python benchmarks/convert.py --folder=DIR --depth=1 --dtype=float32

Every phase is a process of its own. Memory is the kernel's high-water mark of resident pages that
are this process's own (a mapped file's pages are the kernel's to drop) above what it was when the
phase began, sampled every 5 ms. The disk's raw speed is that of writing as many bytes from one
buffer and syncing them, before and after, in the same run. Import and export are whole, with their
manifests; comparing the export back is timed apart. Busy is what all cores together spent, which
other work on the machine changes less than the time.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from launch import weights
from qwenvl_jax.checkpoint import convert, names
from qwenvl_jax.checkpoint import safetensors_writer as writer
from qwenvl_jax.checkpoint.released_config import released_config
from qwenvl_jax.model import posemb
from qwenvl_jax.model.config import AdapterConfig, DecoderConfig, ModelConfig, VitConfig

_PIECE = 64 << 20


def model(depth: int) -> ModelConfig:
    """The released widths with `depth` blocks a tower; 0 is narrow."""
    if depth:
        return ModelConfig(
            VitConfig(224, 14, 1664, depth, 16, 8192, 16),
            AdapterConfig(256, 32),
            DecoderConfig(151_936, 4096, depth, 32, 11_008, 2048, 151_859),
        )
    return ModelConfig(
        VitConfig(224, 14, 208, 2, 16, 1024, 16),
        AdapterConfig(256, 4),
        DecoderConfig(151_936, 512, 2, 32, 1376, 2048, 151_859),
    )


class Phase(NamedTuple):
    seconds: float
    busy: float  # seconds of all cores together
    peak: int  # bytes above the start


def own_memory() -> int:
    """Bytes of resident anonymous pages."""
    status = Path("/proc/self/status").read_text()
    return next(int(x.split()[1]) for x in status.splitlines() if x.startswith("RssAnon")) << 10


def measured(work: Callable[[], None], out) -> None:
    """Run `work`; send its Phase."""
    jax.devices()  # the backend is the process's, not the phase's
    start, peak, done = own_memory(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, own_memory() - start)

    watcher = threading.Thread(target=watch)
    watcher.start()
    before, began = os.times(), time.perf_counter()
    work()
    os.sync()
    seconds, after = time.perf_counter() - began, os.times()
    done.set()
    watcher.join()
    busy = after.user + after.system - before.user - before.system
    out.send(Phase(seconds, busy, peak))


def apart(work: Callable[..., None], *args) -> Phase:
    """`work(*args)` in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(False)
    process = context.Process(target=_child, args=(work, args, send))
    process.start()
    send.close()
    try:
        return receive.recv()
    finally:
        process.join()


def _child(work: Callable[..., None], args: tuple, out) -> None:
    measured(lambda: work(*args), out)


def make(folder: Path, depth: int, dtype: str) -> None:
    """A released directory of random tensors."""
    config, rng = model(depth), np.random.default_rng(0)
    folder.mkdir(parents=True)
    tensors = convert.released_tensors(config, dtype)
    fixed = posemb.sincos_2d(config.adapter.grid, config.decoder.width)  # looked at by import

    def one(t: writer.Tensor) -> np.ndarray:
        x = fixed if t.name == names.POSITIONS else rng.standard_normal(t.shape, np.float32)
        return x.astype(t.dtype)

    random = ((t.name, one(t)) for t in tensors)
    shards = writer.plan(tensors, 2 * 10**9)
    for shard in shards:
        writer.write(folder, shard, random)
    index = {"weight_map": writer.weight_map(shards)}
    (folder / convert.INDEX).write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(released_config(config, dtype=dtype)))


def raw(folder: Path, size: int) -> None:
    """Write and sync `size` bytes."""
    piece = np.random.default_rng(0).bytes(_PIECE)
    with (folder / "raw").open("wb") as file:
        for _ in range(size // _PIECE):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def bring_in(source: Path, workdir: Path) -> None:
    page = Path(__file__).parents[1] / "configs" / "stage1.py"
    weights.import_weights({"qwen_vl": str(source)}, workdir, page=str(page))


def bring_out(workdir: Path, out: Path, dtype: str) -> None:
    weights.export_weights(workdir, out, dtype=dtype, shard_bytes=2 * 10**9)


def check(workdir: Path, out: Path) -> None:
    for line in weights.verify(workdir, out):
        print(f"  {'ok' if line.ok else 'DIFFERS'} {line.what}: {line.found}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="emptied of what is made there")
    parser.add_argument("--depth", type=int, default=0, help="blocks a tower; 0 is a narrow model")
    parser.add_argument("--dtype", default="bfloat16", choices=tuple(convert.DTYPES))
    parser.add_argument("--no_verify", action="store_true", help="do not compare the export back")
    args = parser.parse_args()
    folder = args.folder / "convert-benchmark"
    folder.mkdir(parents=True)
    try:
        apart(make, folder / "in", args.depth, args.dtype)
        tensors = convert.released_tensors(model(args.depth), args.dtype)
        size, largest = sum(t.size for t in tensors), max(t.size for t in tensors)
        print(
            f"{size / 1e9:.2f} GB of {args.dtype}; largest tensor {largest / 1e9:.2f} GB;"
            f" {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}"
        )
        first = apart(raw, folder, size)
        phases = {
            "import": apart(bring_in, folder / "in", folder / "work"),
            "export": apart(bring_out, folder / "work", folder / "out", args.dtype),
        }
        shutil.rmtree(folder / "in")
        second = apart(raw, folder, size)
        gb = size / 1e9
        speed = 2 * gb / (first.seconds + second.seconds)
        print(
            f"raw write: {speed:.2f} GB/s ({gb / first.seconds:.2f}, {gb / second.seconds:.2f});"
            f" busy {first.busy / gb:.2f}, {second.busy / gb:.2f} s/GB"
        )
        for name, phase in phases.items():
            rate = gb / phase.seconds
            print(
                f"{name}: {rate:.2f} GB/s, {rate / speed:.2f} of raw; busy"
                f" {phase.busy / gb:.2f} s/GB; peak {phase.peak / 1e9:.2f} GB above the start"
            )
        print(f"load {os.getloadavg()[0]:.1f} at the end", flush=True)
        if not args.no_verify:
            phase = apart(check, folder / "work", folder / "out")
            print(f"verify: {phase.seconds:.0f} s, peak {phase.peak / 1e9:.2f} GB")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
