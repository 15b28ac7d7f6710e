"""Our attention on packed causal rows against PyTorch's SDPA, and against our own plain causal one.

    python benchmarks/attention.py [--torch_python=PYTHON] [--rows=1 --length=2048 --heads=32]

Output and gradients with respect to queries, keys and values, from the same numbers: float32 on a
CPU, bfloat16 on an accelerator. A row holds samples of equal length, told apart by segments; SDPA
gets the same rows with the mask spelt out. PyTorch is a process of its own. Medians count; the
first call, which compiles, does not. The script fails where the squared norms of the gradients
differ by more than 2 %.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rounds import alternate

OURS, PEER = "ours, packed", "PyTorch SDPA, packed"


def numbers(args: argparse.Namespace) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Queries, keys, values (rows, length, heads, width); segments and positions (rows, length)."""
    rng = np.random.default_rng(0)
    shape = (args.rows, args.length, args.heads, args.width)
    place = np.tile(np.arange(args.length, dtype=np.int32), (args.rows, 1))
    sample = args.length // args.samples
    given = [rng.standard_normal(shape, np.float32) for _ in range(3)]
    return given, place // sample + 1, place % sample


def in_torch(args: argparse.Namespace) -> dict[str, dict]:
    """Run the peer; the only part that imports torch."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    given, segments, positions = numbers(args)
    leaves = [torch.from_numpy(x).to(device, dtype).requires_grad_() for x in given]
    segments, positions = (torch.from_numpy(x).to(device) for x in (segments, positions))
    mask = segments[:, None, :, None] == segments[:, None, None, :]
    mask &= positions[:, None, None, :] <= positions[:, None, :, None]

    def way() -> float:
        for leaf in leaves:
            leaf.grad = None
        q, k, v = (leaf.transpose(1, 2) for leaf in leaves)
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out.float().square().sum().backward()
        return sum(leaf.grad.float().square().sum().item() for leaf in leaves)

    return alternate({PEER: way}, args.rounds)


def in_jax(args: argparse.Namespace) -> tuple[dict[str, dict], str]:
    """Time packed and plain causal rows: figures, and the device's name."""
    import jax
    import jax.numpy as jnp

    from qwenvl_jax.model.attention import attention
    from qwenvl_jax.model.mask import Visibility

    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    given, segments, positions = numbers(args)
    given = [jnp.asarray(x, dtype) for x in given]
    plain = np.ones_like(segments), np.tile(np.arange(args.length, dtype=np.int32), (args.rows, 1))

    def make(segments: np.ndarray, positions: np.ndarray):
        rows = jnp.asarray(segments), jnp.asarray(positions)
        visibility = Visibility(*rows, *rows)

        def loss(q, k, v):
            out = attention(q, k, v, visibility=visibility, packed=True)
            return jnp.square(out.astype(jnp.float32)).sum()

        @jax.jit
        def norm(q, k, v):
            grads = jax.grad(loss, (0, 1, 2))(q, k, v)
            return sum(jnp.square(grad.astype(jnp.float32)).sum() for grad in grads)

        return lambda: float(norm(*given))

    ways = {OURS: make(segments, positions), "ours, plain causal": make(*plain)}
    return alternate(ways, args.rounds), jax.devices()[0].device_kind


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch_python", help="A Python with torch; without it only JAX runs.")
    for name, default in {"rows": 2, "length": 512, "heads": 4, "width": 64, "samples": 4}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.samples < 1 or args.length % args.samples:
        parser.error(f"--samples={args.samples} does not divide --length={args.length}")
    if args.peer:
        print(json.dumps(in_torch(args)))
        return
    found, device = in_jax(args)
    if args.torch_python:
        command = [args.torch_python, __file__, *sys.argv[1:], "--peer"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found |= json.loads(done.stdout.splitlines()[-1])
        np.testing.assert_allclose(found[PEER]["result"], found[OURS]["result"], rtol=2e-2)
    print(
        f"{args.rows} rows of {args.length}, {args.samples} samples each, {args.heads} heads of"
        f" {args.width}, {device}, {len(os.sched_getaffinity(0))} cores, load average"
        f" {os.getloadavg()[0]:.1f}, medians of {args.rounds}"
    )
    base = statistics.median(found[OURS]["seconds"])
    for name, result in found.items():
        middle = statistics.median(result["seconds"])
        print(f"{name:22} {middle * 1e3:9.2f} ms, ours packed takes {base / middle:.2f} of it")


if __name__ == "__main__":
    main()
