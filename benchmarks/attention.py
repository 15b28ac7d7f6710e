"""Our attention on packed causal rows against PyTorch's SDPA, and against plain causal ones.

    python benchmarks/attention.py [--torch_python=PYTHON] [--rows=1 --length=2048 --heads=32]
    python benchmarks/attention.py --full --rows=7 --length=1024 --heads=16 --width=104

First the kernel that this platform chooses is held to dense attention in float32 (on a CPU
the two are one): output and gradients on rows cut at random places, padding at their ends, few
samples and many. Then output and gradients are timed from the same numbers: float32 on a CPU,
bfloat16 on an accelerator. A timed row holds samples of equal length, told apart by segments; SDPA
gets the same rows with the mask spelt out. `--full` is the ViT's attention: every patch sees every
patch. PyTorch is a process of its own. Medians count; the first call, which compiles, does not. The
script fails where values do not agree, or where the squared norms of the gradients differ from
PyTorch's by more than 2 %.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rounds import alternate, in_process

OURS, PEER = "ours", "PyTorch SDPA"
# Largest error over the reference's largest entry, by dtype.
LIMIT = {"float32": 1e-5, "bfloat16": 3e-2}


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
    mask = None
    if not args.full:
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


def seen_by(segments: np.ndarray, positions: np.ndarray):
    """Segments and positions as `attention` takes them."""
    import jax.numpy as jnp

    from qwenvl_jax.model.mask import Visibility

    rows = jnp.asarray(segments), jnp.asarray(positions)
    return Visibility(*rows, *rows)


def cut(rows: int, length: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Segments and positions of rows cut at random places, the last stretch padding."""
    rng = np.random.default_rng(samples)
    segments, positions = np.zeros((2, rows, length), np.int32)
    for row in range(rows):
        cuts = np.sort(rng.choice(np.arange(1, length), samples, replace=False))
        for number, (a, b) in enumerate(zip([0, *cuts[:-1]], cuts, strict=True), 1):
            segments[row, a:b], positions[row, a:b] = number, np.arange(b - a)
    return segments, positions


def worst_error(args: argparse.Namespace, dtype, samples: int | None) -> float:
    """Of output and gradients against dense attention in float32, relative; `samples` None: full
    attention.
    """
    import jax
    import jax.numpy as jnp

    from qwenvl_jax.model.attention import attention
    from qwenvl_jax.model.dense import dense

    given, *_ = numbers(args)
    given = [jnp.asarray(x, dtype) for x in given]  # rounded for both
    segments, positions = cut(args.rows, args.length, samples or 1)
    real = (segments > 0) | (samples is None)
    cotangent = np.random.default_rng(1).standard_normal(given[0].shape, np.float32)
    # Arguments of what is compiled, all of them: XLA takes minutes to fold constants of this size.
    real = jnp.asarray(real[..., None, None])
    visibility = None if samples is None else seen_by(segments, positions)
    rest = jnp.asarray(cotangent) * real, real, visibility

    def run(way, dtype):
        def weighed(q, k, v, cotangent, real, visibility):
            out = way(q, k, v, visibility=visibility).astype(jnp.float32)
            return (out * cotangent).sum(), out * real

        arrays = [*(x.astype(dtype) for x in given), *rest]
        with jax.default_matmul_precision("highest"):  # of the reference: a GPU would round to TF32
            gradients, out = jax.jit(jax.grad(weighed, (0, 1, 2), has_aux=True))(*arrays)
        return [np.asarray(x, np.float32) for x in (out, *gradients)]

    def kernel(q, k, v, *, visibility):
        return attention(q, k, v, visibility=visibility, packed=samples is not None)

    pairs = zip(run(kernel, dtype), run(dense, jnp.float32), strict=True)
    return max(float(np.abs(got - want).max() / np.abs(want).max()) for got, want in pairs)


def check(args: argparse.Namespace, dtype) -> None:
    """Hold the kernel to the reference; ends the script where it is another's values."""
    from qwenvl_jax.batch import most_segments

    # Few samples, and as many as the stream packs into a row.
    for samples in [None] if args.full else [1, args.samples + 1, most_segments(args.length) - 1]:
        error = worst_error(args, dtype, samples)
        what = "full attention" if samples is None else f"rows of {samples} samples and padding"
        limit = LIMIT[np.dtype(dtype).name]
        print(f"{what}: output and gradients are off by {error:.1e} at most (limit {limit:.0e})")
        if not error <= limit:
            raise SystemExit("not the reference's values: nothing is timed")


def in_jax(args: argparse.Namespace) -> tuple[dict[str, dict], str]:
    """Check, then time packed and plain causal rows, or full ones: figures, the device's name."""
    import jax
    import jax.numpy as jnp

    from qwenvl_jax.model.attention import attention

    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    check(args, dtype)
    given, segments, positions = numbers(args)
    given = [jnp.asarray(x, dtype) for x in given]

    def make(attend, visibility=None):
        def loss(q, k, v, visibility):
            return jnp.square(attend(q, k, v, visibility).astype(jnp.float32)).sum()

        @jax.jit
        def norm(q, k, v, visibility):
            grads = jax.grad(loss, (0, 1, 2))(q, k, v, visibility)
            return sum(jnp.square(grad.astype(jnp.float32)).sum() for grad in grads)

        return lambda: float(norm(*given, visibility))

    def ours(q, k, v, visibility):
        return attention(q, k, v, visibility=visibility, packed=visibility is not None)

    def theirs(q, k, v, _):
        way = "cudnn" if jax.default_backend() == "gpu" else "xla"
        return jax.nn.dot_product_attention(q, k, v, is_causal=not args.full, implementation=way)

    if args.full:
        ways = {OURS: make(ours), "JAX's own": make(theirs)}
    else:
        place = np.tile(np.arange(args.length, dtype=np.int32), (args.rows, 1))
        plain = seen_by(np.ones_like(segments), place)
        ways = {
            OURS: make(ours, seen_by(segments, positions)),
            "ours, plain causal": make(ours, plain),
            "JAX's own, plain causal": make(theirs),
        }
    return alternate(ways, args.rounds), jax.devices()[0].device_kind


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch_python", help="A Python with torch; without it only JAX runs.")
    for name, default in {"rows": 2, "length": 512, "heads": 4, "width": 64, "samples": 4}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--full", action="store_true", help="no mask: the ViT's attention")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--side", choices=(OURS, PEER), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.samples < 1 or args.length % args.samples:
        parser.error(f"--samples={args.samples} does not divide --length={args.length}")
    if args.side:
        print(json.dumps((in_torch if args.side == PEER else in_jax)(args)))
        return
    found, device = in_process(sys.executable, f"--side={OURS}")
    if args.torch_python:
        found |= in_process(args.torch_python, f"--side={PEER}")
        np.testing.assert_allclose(found[PEER]["result"], found[OURS]["result"], rtol=2e-2)
    rows = "full attention" if args.full else f"{args.samples} samples each"
    print(
        f"{args.rows} rows of {args.length}, {rows}, {args.heads} heads of"
        f" {args.width}, {device}, {len(os.sched_getaffinity(0))} cores, load average"
        f" {os.getloadavg()[0]:.1f}, medians of {args.rounds}"
    )
    base = statistics.median(found[OURS]["seconds"])
    for name, result in found.items():
        middle = statistics.median(result["seconds"])
        print(f"{name:24} {middle * 1e3:9.2f} ms, ours takes {base / middle:.2f} of it")


if __name__ == "__main__":
    main()
