"""Our chunked loss head against full logits, in JAX and in eager PyTorch, on one device.

    python benchmarks/loss.py [--torch_python=PYTHON] [--rows=1 --length=4096]

Each way computes the summed loss and its gradient with respect to the decoder's output, the head
frozen as in stage 1, from the same numbers: float32 on a CPU, bfloat16 with float32 losses on an
accelerator. The JAX ways alternate in one process, PyTorch is another with the same rounds, as the
two keep threads and device memory to themselves. Medians count; the first call, which
compiles, does not. The script fails where losses disagree by more than 1 %.
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

IGNORED = -100
OURS = "ours"
PEER = "PyTorch eager, full logits"


def numbers(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The decoder's output (rows, length, width), the head (width, vocab) and the targets."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((args.rows, args.length, args.width), np.float32)
    head = rng.random((args.width, args.vocab), np.float32) - np.float32(0.5)
    head *= (12 / args.width) ** 0.5  # of variance 1 / width
    targets = rng.integers(0, args.vocab, (args.rows, args.length))
    targets[rng.random(targets.shape) >= args.labelled] = IGNORED
    return hidden, head, targets


def in_torch(args: argparse.Namespace) -> dict[str, dict]:
    """Run the peer; the only part that imports torch."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    hidden, head, targets = (torch.from_numpy(x).to(device) for x in numbers(args))
    hidden, head = hidden.to(dtype).requires_grad_(), head.to(dtype)

    def way() -> float:
        hidden.grad = None
        logits = (hidden @ head).float().flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, targets.flatten(), reduction="sum")
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        return loss.item()

    return alternate({PEER: way}, args.rounds)


def in_jax(args: argparse.Namespace) -> tuple[dict[str, dict], dict[str, int], str]:
    """Time both ways of JAX: figures, bytes of temporaries by way, and the device's name."""
    import jax
    import jax.numpy as jnp
    import optax

    from qwenvl_jax.train.loss import token_losses

    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    hidden, head, targets = numbers(args)
    given = jnp.asarray(hidden, dtype), jnp.asarray(head, dtype), jnp.asarray(targets, jnp.int32)

    def ours(hidden, head, targets):
        return token_losses(hidden, head, targets, chunk=args.chunk).sum()

    def naive(hidden, head, targets):
        logits = jnp.einsum("btd,dv->btv", hidden, head, preferred_element_type=jnp.float32)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(targets, 0))
        return jnp.where(targets == IGNORED, 0.0, losses).sum()

    ways, temporaries = {}, {}
    for name, loss in {OURS: ours, "JAX, full logits": naive}.items():
        compiled = jax.jit(jax.value_and_grad(loss)).lower(*given).compile()
        ways[name] = lambda run=compiled: float(jax.block_until_ready(run(*given))[0])
        temporaries[name] = compiled.memory_analysis().temp_size_in_bytes
    return alternate(ways, args.rounds), temporaries, jax.devices()[0].device_kind


def memory_on(args: argparse.Namespace) -> str:
    """What the head needs on a TPU chip beside its arguments, compiled here; as `--rows` a chip."""
    import jax
    import jax.numpy as jnp

    from launch.plan.chips import get_topology
    from qwenvl_jax.parallel import rules
    from qwenvl_jax.parallel.mesh import MeshConfig, make_mesh
    from qwenvl_jax.train.loss import token_losses

    devices = get_topology(args.topology).devices
    mesh = make_mesh(MeshConfig(data=-1), devices)
    rows, everywhere = rules.batch_sharding(mesh), rules.replicated(mesh)
    shape = (args.rows * len(devices), args.length)
    given = (
        jax.ShapeDtypeStruct((*shape, args.width), jnp.bfloat16, sharding=rows),
        jax.ShapeDtypeStruct((args.width, args.vocab), jnp.bfloat16, sharding=everywhere),
        jax.ShapeDtypeStruct(shape, jnp.int32, sharding=rows),
    )
    total = lambda h, w, t: token_losses(h, w, t, chunk=args.chunk).sum()  # noqa: E731
    with jax.set_mesh(mesh):
        stats = jax.jit(jax.value_and_grad(total)).lower(*given).compile().memory_analysis()
    size = stats.peak_memory_in_bytes - stats.argument_size_in_bytes
    share = size / (args.rows * args.length * args.vocab * 4)
    return f"{args.topology}: {size / 2**20:.0f} MiB a chip, {share:.3f} of the float32 logits"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch_python", help="A Python with torch; without it only JAX runs.")
    for name, default in {"rows": 1, "length": 512, "width": 256, "vocab": 32_000}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--chunk", type=int, help="Positions whose logits exist; a 40th of all.")
    parser.add_argument("--topology", help="Of TPUs; compiles for them and says what a chip needs.")
    parser.add_argument("--labelled", type=float, default=0.5, help="Share of the positions.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--side", choices=(OURS, PEER), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.chunk = args.chunk or max(args.rows * args.length // 40, 1)
    if args.topology:
        os.environ["JAX_PLATFORMS"] = "cpu"
        print(memory_on(args))
        return
    if args.side:
        print(json.dumps((in_torch if args.side == PEER else in_jax)(args)))
        return
    found, temporaries, device = in_process(sys.executable, f"--side={OURS}")
    if args.torch_python:
        found |= in_process(args.torch_python, f"--side={PEER}")
    logits = args.rows * args.length * args.vocab * 4
    print(
        f"{args.rows} x {args.length} positions, {args.labelled:.0%} labelled, width {args.width},"
        f" {args.vocab} entries, chunks of {args.chunk}, {device}, {len(os.sched_getaffinity(0))}"
        f" cores, load average {os.getloadavg()[0]:.1f}, medians of {args.rounds}"
    )
    base = statistics.median(found[OURS]["seconds"])
    for name, result in found.items():
        np.testing.assert_allclose(result["result"], found[OURS]["result"], rtol=1e-2, err_msg=name)
        middle = statistics.median(result["seconds"])
        line = f"{name:26} {middle * 1e3:9.2f} ms, ours takes {base / middle:.2f} of it"
        if name in temporaries:
            line += f"; temporaries {temporaries[name] / logits:.3f} of the float32 logits"
        print(line)


if __name__ == "__main__":
    main()
