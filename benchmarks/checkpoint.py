"""Checkpoints beside the disk and the copy off the device: speed of save and restore.

    python benchmarks/checkpoint.py --folder=DIR [--gb=1] [--rounds=3]

Parameters are stacked as the decoder's are: three kernels of the released width, as many layers as
fit the size, bf16, random. Raw is one buffer written and synced, read back from the page cache as
the restored files are; save ends when everything is on disk, manifest included. SHA-256 is that of
the saved files once more, on all cores: what a save has to do beside writing. Medians. Busy is what
all cores together spent on it, which other work on the machine changes less than the time.
"""

import argparse
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import ml_dtypes
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from qwenvl_jax.checkpoint import manifest
from qwenvl_jax.checkpoint.manager import Checkpoints
from qwenvl_jax.checkpoint.policy import CheckpointConfig

_WIDTH, _MLP, _PIECE = 4096, 11_008, 64 << 20
_OPTIMIZER = {"steps": np.zeros((), np.int32)}


def parameters(size: float) -> dict:
    """About `size` bytes on the first device."""
    layers = max(1, round(size / (3 * 2 * _WIDTH * _MLP)))
    rng = np.random.default_rng(0)
    layer = rng.standard_normal((_WIDTH, _MLP), np.float32).astype(ml_dtypes.bfloat16)

    def kernel(offset: int) -> dict:
        stacked = np.stack([np.roll(layer, i + offset, 0) for i in range(layers)])
        return {"kernel": jax.device_put(stacked)}

    names = ("up", "gate", "down")
    mlp = {name: kernel(i * layers) for i, name in enumerate(names)}
    return {"decoder": {"blocks": {"mlp": mlp}}}


class Took(NamedTuple):
    seconds: float
    busy: float  # seconds of all cores together


def now() -> Took:
    spent = os.times()
    return Took(time.perf_counter(), spent.user + spent.system)


def since(began: Took) -> Took:
    end = now()
    return Took(end.seconds - began.seconds, end.busy - began.busy)


def timed(work: Callable[[], object]) -> Took:
    began = now()
    work()
    return since(began)


def raw_write(file: Path, size: int) -> None:
    piece = np.random.default_rng(0).bytes(_PIECE)
    with file.open("wb") as out:
        for first in range(0, size, _PIECE):
            out.write(piece[: size - first])
        out.flush()
        os.fsync(out.fileno())


def raw_read(file: Path) -> None:
    np.fromfile(file, np.uint8)


def restore(workdir: Path, params: dict, *, verify: bool) -> None:
    checkpoints = Checkpoints(workdir, CheckpointConfig(verify=verify), {})
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shardings = jax.tree.map(lambda _: here, (params, _OPTIMIZER))
    restored = checkpoints.restore(
        params=params, opt_state=_OPTIMIZER, frozen={}, shardings=(*shardings, {})
    )
    jax.block_until_ready(restored.params)
    checkpoints.close()


def one_round(folder: Path, params: dict, size: int) -> dict[str, Took]:
    """What each part took."""
    file, work = folder / "raw", folder / "work"
    took = {"raw write": timed(lambda: raw_write(file, size))}
    took["raw read"] = timed(lambda: raw_read(file))
    file.unlink()
    took["copy"] = timed(lambda: jax.tree.map(lambda x: np.array(x), params))
    checkpoints = Checkpoints(work, CheckpointConfig(), {})
    data = np.zeros((1, 1), np.int64)
    began = now()
    checkpoints.save(1, params=params, opt_state=_OPTIMIZER, frozen={}, data=data)
    took["blocked"] = since(began)
    checkpoints.close()
    os.sync()
    took["save"] = since(began)
    took["SHA-256"] = timed(lambda: manifest.write(work / "checkpoints" / "1"))
    took["restore"] = timed(lambda: restore(work, params, verify=False))
    took["restore, verified"] = timed(lambda: restore(work, params, verify=True))
    shutil.rmtree(work)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="emptied of what is made there")
    parser.add_argument("--gb", type=float, default=1.0, help="10^9 bytes")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    folder = (args.folder / "checkpoint-benchmark").absolute()
    folder.mkdir(parents=True)
    try:
        params = parameters(args.gb * 1e9)
        size = sum(x.nbytes for x in jax.tree.leaves(params))
        rounds = [one_round(folder, params, size) for _ in range(args.rounds)]
    finally:
        shutil.rmtree(folder)
    took = {
        name: Took(*(statistics.median(times) for times in zip(*(r[name] for r in rounds))))
        for name in rounds[0]
    }
    cores = len(os.sched_getaffinity(0))
    print(
        f"{size / 1e9:.2f} GB, {args.rounds} rounds, {cores} cores, load {os.getloadavg()[0]:.1f}"
    )
    for name, peer in (
        ("save", "raw write"),
        ("restore", "raw read"),
        ("restore, verified", "raw read"),
    ):
        own, other = took[name], took[peer]
        rate, beside = size / own.seconds / 1e9, size / other.seconds / 1e9
        print(
            f"{name}: {rate:.2f} GB/s, {rate / beside:.2f} of {peer} ({beside:.2f} GB/s);"
            f" busy {own.busy * 1e9 / size:.2f} s/GB ({peer} {other.busy * 1e9 / size:.2f})"
        )
    floor = took["raw write"].seconds + took["SHA-256"].seconds
    print(
        f"save {took['save'].seconds:.2f} s, {took['save'].seconds / floor:.2f} of raw write"
        f" ({took['raw write'].seconds:.2f}) and SHA-256 ({took['SHA-256'].seconds:.2f})"
    )
    blocked, copy = took["blocked"].seconds, took["copy"].seconds
    print(f"blocked by save: {blocked:.2f} s, {blocked / copy:.2f} of a copy ({copy:.2f} s)")


if __name__ == "__main__":
    main()
