"""The vision tower forward and backward, ours beside PyTorch's of the same shapes and weights.

    python benchmarks/vit.py --torch_python=PYTHON                       # a small one
    python benchmarks/vit.py --torch_python=PYTHON --released --images=32 [--compile]

From pictures to patch features to the gradients of all parameters; float32 on a CPU, bfloat16 with
float32 parameters on an accelerator. `--released` is ViT-bigG/14 at 224 pixels. Losses and the
squared norms of the gradients must agree. Utilisation is told by two counts: ideal (3 x forward)
and what the program multiplies (recomputed blocks as well); of the chip's stated peak where it is
known, else of what one large matmul reaches in the same run. Each side is a process of its own.
Medians count; the first call, which compiles, does not.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rounds import alternate, in_process

OURS, PEER, MATMUL = "ours", "PyTorch", "one matmul"
RELEASED = dict(image=224, patch=14, width=1664, layers=48, heads=16, mlp=8192)
SMALL = dict(image=112, patch=14, width=256, layers=4, heads=4, mlp=1024)
SIDE = {"cpu": 2048}  # of the large matmul; 8,192 on accelerators


def sizes(args: argparse.Namespace) -> dict[str, int]:
    """The tower as `VitConfig` has it, given or by default."""
    base = RELEASED if args.released else SMALL
    named = {name: getattr(args, name) or base[name] for name in base}
    image, patch = named["image"], named["patch"]
    return {
        "image_size": image,
        "patch_size": patch,
        "width": named["width"],
        "layers": named["layers"],
        "heads": named["heads"],
        "mlp_width": named["mlp"],
        "position_grid": image // patch,
    }


def pictures(args: argparse.Namespace, side: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (args.images, side, side, 3), dtype=np.uint8)


def in_torch(args: argparse.Namespace) -> dict[str, dict]:
    """Run the peer; the only part that imports torch."""
    import torch

    from benchmarks import torch_peer

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    cuda = torch.cuda.is_available()
    vit = sizes(args)
    device = "cuda" if cuda else "cpu"
    with torch.device(device):
        model = torch_peer.Vit(vit | {"eps": 1e-6})
    with np.load(args.weights) as weights:
        torch_peer.load(model, weights)
    if args.compile:
        for block in model.blocks:  # one program for all of them
            block.compile()
    images = torch.from_numpy(pictures(args, vit["image_size"])).to(device)

    def way() -> list[float]:
        model.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=cuda):
            features = model(images)
        loss = features.float().square().mean()
        loss.backward()
        norm = sum(p.grad.float().square().sum() for p in model.parameters())
        return [loss.item(), norm.item()]

    return alternate({PEER: way}, args.rounds)


def in_jax(args: argparse.Namespace) -> tuple[dict[str, dict], dict]:
    """Time ours and a large matmul: figures, and what is known of device and program."""
    import dataclasses

    import jax
    import jax.numpy as jnp

    from launch.plan.analytic import hardware_flops, kernel_on
    from qwenvl_jax import trees
    from qwenvl_jax.model.config import ModelConfig, VitConfig
    from qwenvl_jax.model.vit import VisionTower
    from qwenvl_jax.train import flops
    from qwenvl_jax.train.step import as_multiplied

    cpu = jax.default_backend() == "cpu"
    dtype = "float32" if cpu else "bfloat16"
    config = dataclasses.replace(
        ModelConfig.released(),
        vit=VitConfig(**sizes(args)),
        dtype=dtype,
        remat=args.remat,
        scan_layers=cpu,
    )
    tower = VisionTower(config)
    scanned = VisionTower(dataclasses.replace(config, scan_layers=True))  # quicker to compile
    images = jnp.asarray(pictures(args, config.vit.image_size))
    params = jax.jit(scanned.init)(jax.random.key(0), images[:1])["params"]
    if args.weights:
        np.savez(args.weights, **jax.device_get(trees.flatten(params)))

    @jax.jit
    def step(params, images):
        def loss(params):
            features = tower.apply({"params": params}, images)
            return jnp.square(features.astype(jnp.float32)).mean()

        value, grads = jax.value_and_grad(loss)(as_multiplied(config, {"vit": params}, {})["vit"])
        norm = sum(jnp.square(leaf.astype(jnp.float32)).sum() for leaf in jax.tree.leaves(grads))
        return value, norm

    side = SIDE.get(jax.default_backend(), 8192)
    square = jax.random.normal(jax.random.key(1), (side, side), dtype)
    product = jax.jit(lambda x: x @ x)
    ways = {
        OURS: lambda: [float(x) for x in step(params, images)],
        MATMUL: lambda: product(square).block_until_ready() is None,
    }
    found = alternate(ways, args.rounds)
    forward = flops.image_flops(config) - flops.adapter_flops(config)
    hardware = hardware_flops(
        config, {"vit"}, rows=0, length=0, images=args.images, head_positions=0,
        kernel=kernel_on(jax.default_backend()),
    ) - 3 * args.images * flops.adapter_flops(config)  # fmt: skip
    kind = jax.devices()[0].device_kind
    return found, {
        "device": kind,
        "dtype": dtype,
        "ideal": 3 * args.images * forward,
        "hardware": hardware,
        "peak": flops.PEAK.get(kind),
        "matmul": 2 * side**3,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch_python", help="A Python with torch; without it only JAX runs.")
    parser.add_argument("--released", action="store_true", help="ViT-bigG/14 at 224 pixels")
    for name in RELEASED:
        parser.add_argument(f"--{name}", type=int, help=f"{SMALL[name]}; released {RELEASED[name]}")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--remat", default="none", choices=("none", "dots", "full"))
    parser.add_argument("--compile", action="store_true", help="torch.compile the peer's blocks")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--side", choices=(OURS, PEER), help=argparse.SUPPRESS)
    parser.add_argument("--weights", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps((in_torch if args.side == PEER else in_jax)(args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        weights = []
        if args.torch_python:
            weights = [f"--weights={Path(folder) / 'weights.npz'}"]
        found, about = in_process(sys.executable, f"--side={OURS}", *weights)
        if args.torch_python:
            found |= in_process(args.torch_python, f"--side={PEER}", *weights)
            limit = {"float32": 1e-3, "bfloat16": 3e-2}[about["dtype"]]
            np.testing.assert_allclose(found[PEER]["result"], found[OURS]["result"], rtol=limit)
    tell(args, found, about)


def tell(args: argparse.Namespace, found: dict[str, dict], about: dict) -> None:
    """Print the figures."""
    middle = {name: statistics.median(result["seconds"]) for name, result in found.items()}
    reached = about["matmul"] / middle.pop(MATMUL)
    peak = about["peak"] or reached
    print(
        f"{about['parameters']:,} parameters, {args.images} pictures, {about['dtype']}, remat"
        f" {args.remat}, {about['device']}, {len(os.sched_getaffinity(0))} cores, load average"
        f" {os.getloadavg()[0]:.1f}, medians of {args.rounds}; peak {peak / 1e12:.3f} TFLOP/s"
        f" ({'stated' if about['peak'] else 'one large matmul'})"
    )
    for name, seconds in middle.items():
        line = f"{name:8} {seconds * 1e3:9.1f} ms, {args.images / seconds:8.1f} pictures/s,"
        line += f" {about['ideal'] / seconds / peak:.1%} of peak by the ideal count"
        if name == OURS:
            line += f", {about['hardware'] / seconds / peak:.1%} by what is multiplied"
        else:
            line += f"; ours takes {middle[OURS] / seconds:.2f} of it"
        print(line)


if __name__ == "__main__":
    main()
