"""Decoded tokens a second beside the floor that memory sets.

    python benchmarks/decode.py [--rows=1,8] [--config=configs/stage1.py] [--torch_python=PYTHON]

A step of decoding reads every weight of the decoder and its head once, and the cache of every row;
it cannot be faster than memory gives them. The floor is those bytes over the bandwidth measured
here (the faster of two programs that only read: a sum, and a product of a matrix and a vector).
A step's time is that of `generate` with all new tokens, less that with one (reading the prompt),
over the steps between. Rounds alternate between bandwidth and decoding, and medians count. Weights
are random; nothing stops early. With a Python that has torch, `decode_peer.py` does the same from
the same weights right after; it must say the same tokens.
"""

import argparse
import dataclasses
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from launch.weights import load_page
from qwenvl_jax import settings, trees
from qwenvl_jax.checkpoint import names
from qwenvl_jax.inference.generate import generate
from qwenvl_jax.model.config import AdapterConfig, DecoderConfig, ModelConfig, VitConfig

# Far larger than any cache of the processor, small enough for a laptop.
SMALL = ModelConfig(
    VitConfig(64, 16, 64, 1, 4, 128, 4),
    AdapterConfig(4, 4),
    DecoderConfig(32_000, 1024, 2, 8, 2752, 2048, 0),
    dtype="float32",
)


def random_parameters(config: ModelConfig) -> trees.Tree:
    """Small noise in the compute dtype: values do not change what a step costs."""
    make = jax.jit(
        lambda key, shape: 0.02 * jax.random.normal(key, shape, config.dtype), static_argnums=1
    )
    key = jax.random.key(0)
    return jax.tree.map(lambda x: make(key, x.shape), names.parameter_shapes(config))


def step_bytes(config: ModelConfig, params: trees.Tree, rows: int, slots: float) -> float:
    """Bytes that one step has to read: blocks and head, and `slots` filled slots of each row."""
    decoder = dict(params["decoder"])
    decoder.pop("embedding")  # of which a step reads one line a row
    weights = sum(x.nbytes for x in jax.tree.leaves(decoder))
    d, width = config.decoder, jnp.dtype(config.dtype).itemsize
    return weights + 2 * rows * slots * d.layers * d.width * width


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def readers(size: int, dtype: str) -> list[Callable[[], jax.Array]]:
    """Compiled programs that read `size` bytes and do next to nothing with them."""
    width = 4096
    matrix = jnp.ones((size // width // jnp.dtype(dtype).itemsize, width), dtype)
    vector = jnp.ones(width, dtype)
    runs = [functools.partial(jax.jit(jnp.sum), matrix)]
    runs.append(functools.partial(jax.jit(jnp.dot), matrix, vector))
    for run in runs:
        jax.block_until_ready(run())
    return runs


def peer(config: ModelConfig, params: trees.Tree, args, tokens: np.ndarray, said) -> float:
    """Seconds a step of eager PyTorch, in a process of its own.

    Raises:
      ValueError: it said other tokens.
    """
    about = {"tokens": tokens, "rounds": args.rounds, "new": args.new, "eps": config.decoder.eps}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "given.npz"
        np.savez(path, **about, **trees.flatten(params["decoder"]))
        script = str(Path(__file__).with_name("decode_peer.py"))
        done = subprocess.run(
            [args.torch_python, script, str(path)], stdout=subprocess.PIPE, text=True, check=True
        )
    found = json.loads(done.stdout.splitlines()[-1])
    if found["tokens"] != said.tolist():
        raise ValueError("the peer says other tokens: what is timed is not the same")
    return found["step"]


def measure(config: ModelConfig, params: trees.Tree, args: argparse.Namespace, rows: int) -> None:
    """One line of the table."""
    side = config.vit.image_size
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(1, 1000, (rows, args.prompt)), jnp.int32)
    lengths = jnp.full(rows, args.prompt, jnp.int32)
    images = jnp.zeros((rows, 0, side, side, 3), jnp.uint8)

    def run(new: int):
        return generate(config, params, tokens, lengths, images, max_new_tokens=new, stop_ids=())

    # A gigabyte takes a GPU no longer than starting the program does.
    most = 2**30 if jax.default_backend() == "cpu" else 2**33
    size = min(int(step_bytes(config, params, rows, args.prompt)), most)
    reading = readers(size, config.dtype)
    jax.block_until_ready([run(1), run(args.new)])
    bandwidths, steps = [], []
    for _ in range(args.rounds):
        bandwidths.append(size / min(seconds(reader) for reader in reading))
        first = seconds(lambda: run(1))
        steps.append((seconds(lambda: run(args.new)) - first) / (args.new - 1))
    bandwidth, step = statistics.median(bandwidths), statistics.median(steps)
    needed = step_bytes(config, params, rows, args.prompt + args.new / 2)
    floor = needed / bandwidth
    line = (
        f"{rows:5}{needed / 1e6:9.0f}{bandwidth / 1e9:9.1f}{1e3 * floor:10.2f}{1e3 * step:9.2f}"
        f"{rows / step:10.1f}{floor / step:12.2f}"
    )
    if args.torch_python:
        said = np.asarray(run(args.new))
        other = peer(config, params, args, np.asarray(tokens), said)
        line += f"{1e3 * other:10.2f}{other / step:12.2f}"
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", help="sizes of a config page; without it, a small model")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="instead of the model's")
    parser.add_argument("--rows", default="1,8", help="batch sizes")
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--new", type=int, default=33)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--torch_python", help="a Python with torch: its steps beside ours")
    args = parser.parse_args()
    config = SMALL
    if args.config:
        values = load_page(args.config).model.to_dict()
        config = settings.build(ModelConfig, values, "config.model")
    if args.dtype:
        config = dataclasses.replace(config, dtype=args.dtype)
    params = random_parameters(config)
    size = sum(x.nbytes for x in jax.tree.leaves(params)) / 1e9
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(
        f"{jax.devices()[0].device_kind}, {cores} cores, load {os.getloadavg()[0]:.1f};"
        f" {size:.2f} GB of {config.dtype} weights; prompts of {args.prompt},"
        f" {args.new} new tokens; medians of {args.rounds} rounds"
    )
    heads = ("rows", "MB/step", "GB/s", "floor ms", "step ms", "tokens/s", "floor/step")
    heads += ("torch ms", "torch/ours") if args.torch_python else ()
    print("".join(f"{h:>{w}}" for h, w in zip(heads, (5, 9, 9, 10, 9, 10, 12, 10, 12))))
    for rows in map(int, args.rows.split(",")):
        measure(config, params, args, rows)


if __name__ == "__main__":
    main()
