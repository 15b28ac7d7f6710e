"""What import and export consist of, part by part: seconds of a core per GB.

    python benchmarks/weight_parts.py --folder=DIR [--layers=4] [--dtype=bfloat16]

The parts run one after the other on kernels of the released width, by the functions that import and
export use. Seconds are those that cores were busy, user and kernel apart: other work on the machine
changes them less than the time that passes. Medians of 3.
"""

import argparse
import hashlib
import os
import shutil
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from qwenvl_jax.checkpoint import blocks, convert, layouts, manifest, orbax_writer
from qwenvl_jax.checkpoint import safetensors_writer as writer
from qwenvl_jax.checkpoint.stored import Leaf

_WIDTH, _MLP, _PIECE, _PAGE = 4096, 11_008, 8 << 20, 4096


def busy(work: Callable[[], object]) -> tuple[float, float]:
    """(user, kernel) seconds of this process."""
    before = os.times()
    work()
    after = os.times()
    return after.user - before.user, after.system - before.system


def touch(size: int) -> None:
    np.empty(size, np.uint8)[::_PAGE] = 1


def write(file: Path, x: np.ndarray, *, sync: bool) -> None:
    with file.open("wb") as out:
        for first in range(0, x.size, _PIECE):
            out.write(x[first : first + _PIECE])
        if sync:
            os.fsync(out.fileno())


def save(folder: Path, x_LDF: jax.Array) -> None:
    tree = {"blocks": {"kernel": x_LDF}}
    with ocp.Checkpointer(orbax_writer.handler()) as checkpointer:
        checkpointer.save(folder, args=orbax_writer.save_args(tree), force=True)


def open_leaf(folder: Path, *, mapped: bool) -> Leaf:
    base = {"driver": "file", "path": f"{folder}/"}
    base |= {"file_io_mode": {"mode": "memmap"}} if mapped else {}
    place = {"driver": "ocdbt", "base": base, "path": "blocks.kernel/"}
    return Leaf(ts.open({"driver": "zarr", "kvstore": place}, read=True).result())


def read_whole(leaf: Leaf) -> None:
    for layer in range(len(leaf)):
        np.asarray(leaf[layer])


def read_rows(leaf: Leaf, dtype: np.dtype) -> None:
    """As export reads a transposed kernel, put in order in one buffer."""
    buffer = np.empty(2 * _PIECE, np.uint8)
    for layer in range(len(leaf)):
        rows = layouts.LINEAR.save(leaf[layer])
        for _ in writer.panels(rows, dtype, lambda size: buffer[:size]):
            pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="emptied of what is made there")
    parser.add_argument(
        "--layers",
        type=int,
        default=4,
        help="0.09 GB each in bf16; saving has a fixed part that few layers do not hide",
    )
    parser.add_argument("--dtype", default="bfloat16", choices=tuple(convert.DTYPES))
    args = parser.parse_args()
    folder, dtype = (args.folder / "weight-parts").absolute(), convert.DTYPES[args.dtype]
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    layer = rng.standard_normal((_MLP, _WIDTH), np.float32).astype(dtype)  # as released
    x_LDF = np.stack([np.roll(layer.T, i, 0) for i in range(args.layers)])
    flat, out = x_LDF.reshape(-1).view(np.uint8), np.zeros(x_LDF.shape, dtype)
    array, file, saved = jax.device_put(x_LDF), folder / "raw", folder / "saved"

    words = np.dtype(f"u{dtype.itemsize}")  # NumPy copies its own types much faster

    def transpose(copy: Callable[[np.ndarray, np.ndarray], None]) -> None:
        for place in out.view(words):
            copy(place, layer.view(words).T)

    parts = {
        "first touch of memory": lambda: touch(flat.size),
        "copy": lambda: np.copyto(out.view(words), x_LDF.view(words)),
        "transposed copy, NumPy's": lambda: transpose(np.copyto),
        "transposed copy, ours": lambda: transpose(blocks.copy),
        "SHA-256": lambda: hashlib.sha256(flat).hexdigest(),
        "write": lambda: write(file, flat, sync=False),
        "write and sync": lambda: write(file, flat, sync=True),
        "SHA-256 of a file": lambda: manifest.sha256(file),
        "save of an array by Orbax, our settings": lambda: save(saved, array),
        "read of layers into new memory": lambda: read_whole(open_leaf(saved, mapped=False)),
        "the same from mapped files": lambda: read_whole(open_leaf(saved, mapped=True)),
        "read in rows from mapped files, in order": lambda: read_rows(
            open_leaf(saved, mapped=True), dtype
        ),
    }
    try:
        print(
            f"{flat.size / 1e9:.2f} GB of {args.dtype}, {len(os.sched_getaffinity(0))} cores,"
            f" load {os.getloadavg()[0]:.1f}; s/GB: busy (user, kernel)"
        )
        for name, work in parts.items():
            user, kernel = (
                statistics.median(times) / flat.size * 1e9
                for times in zip(*(busy(work) for _ in range(3)))
            )
            print(f"{name}: {user + kernel:.2f} ({user:.2f}, {kernel:.2f})", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
