"""Samples a second of our stage-1 step against PyTorch eager on the same CPU cores.

    python benchmarks/train_step.py --data=runs/demo/data [--torch_python=PYTHON]

The demo's stage 1 (its config, its scenes, its packed rows, random weights) runs in three ways: our
compiled step, the plain PyTorch of `torch_peer.py` on one sample a row, and the same on our packed
rows. Each run is a process of its own; the three alternate, and the median over the rounds counts.
All start from the same weights and see the same samples, so their losses must agree step by step:
the script fails if they do not. Compilation and the first steps are not timed; turning NumPy
batches into device arrays is.
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from qwenvl_jax.batch import IGNORE, Batch

NAMES = {"ours": "ours, packed", "padded": "torch, padded", "packed": "torch, packed"}
WARM = 3  # steps before the clock counts


def unpack(batch: Batch) -> dict[str, np.ndarray]:
    """One sample a row, padded at the right to the longest, empty image slots dropped."""
    samples = []
    for row in range(len(batch.tokens)):
        images = iter(batch.images[row][batch.image_mask[row]])
        for segment in range(1, batch.segments[row].max() + 1):
            here = batch.segments[row] == segment
            samples.append((batch.tokens[row][here], batch.targets[row][here], next(images)))
        assert next(images, None) is None, "a sample of stage 1 has one image"
    shape = (len(samples), max(len(tokens) for tokens, _, _ in samples))
    tokens, targets = np.zeros(shape, np.int32), np.full(shape, IGNORE, np.int32)
    segments = np.zeros(shape, np.int32)
    for place, (ids, labels, _) in enumerate(samples):
        tokens[place, : len(ids)], targets[place, : len(ids)] = ids, labels
        segments[place, : len(ids)] = 1
    return {
        "tokens": tokens,
        "targets": targets,
        "segments": segments,
        "positions": np.tile(np.arange(shape[1], dtype=np.int32), (shape[0], 1)),
        "images": np.stack([image for *_, image in samples])[:, None],
        "image_mask": np.ones((len(samples), 1), bool),
    }


def parse(data: str):
    """The demo's stage 1 as checked dataclasses: (trainer, stream)."""
    from configs import stage1
    from launch import stage

    training, stream, _ = stage.parse(stage1.get_config(f"demo,data={data}"))
    return training, dataclasses.replace(stream, num_workers=0)


def write_inputs(folder: Path, data: str, steps: int) -> dict:
    """Batches in both layouts, starting weights and sizes: all that the processes share."""
    import jax

    from data_pipelines.stream.stream import Stream
    from qwenvl_jax import trees
    from qwenvl_jax.model import qwenvl
    from qwenvl_jax.train import optim

    training, config = parse(data)
    if training.optim.vit_layer_decay != 1 or training.optim.accumulation != 1:
        raise ValueError("the peer knows neither config.optim.vit_layer_decay nor accumulation")
    stream, samples, fill, length = Stream(config), [], [], []
    for step in range(steps):
        batch = next(stream)
        padded = unpack(batch)
        # PyTorch's embedding and loss want 64-bit labels; ours reads the same file and keeps 32.
        np.savez(folder / f"ours_{step}.npz", **batch._asdict())
        wide = {"targets": batch.targets.astype(np.int64)}
        np.savez(folder / f"packed_{step}.npz", **(batch._asdict() | wide))
        wide = {"targets": padded["targets"].astype(np.int64)}
        np.savez(folder / f"padded_{step}.npz", **(padded | wide))
        samples.append(len(padded["tokens"]))
        fill.append([float((x > 0).mean()) for x in (batch.segments, padded["segments"])])
        length.append(padded["tokens"].shape[1])
    stream.close()
    make = jax.jit(lambda seed: qwenvl.init(training.model, jax.random.key(seed)))
    weights = jax.device_get(trees.flatten(make(training.seed)))
    np.savez(folder / "weights.npz", **weights)
    rates = optim.schedule(training.optim)
    about = {
        "model": dataclasses.asdict(training.model),
        "optim": dataclasses.asdict(training.optim),
        "rates": [float(rates(step)) for step in range(steps)],
        "samples": samples,
        "fill": np.mean(fill, axis=0).tolist(),
        "rows": list(batch.tokens.shape),
        "slots": batch.images.shape[1],
        "longest": [min(length), max(length)],
        "parameters": sum(leaf.size for leaf in weights.values()),
    }
    (folder / "about.json").write_text(json.dumps(about))
    return about


def ours(folder: Path, data: str) -> dict:
    """Run our compiled step over the batches."""
    import jax

    from qwenvl_jax.parallel import rules
    from qwenvl_jax.train import program, trainer

    training, config = parse(data)
    prepared = program.prepare(training, config.batch_shapes(), num_sources=len(config.sources))
    state, frozen = trainer.start(training, prepared)
    sharding = rules.batch_sharding(prepared.mesh)
    seconds, losses = [], []
    for step in range(len(json.loads((folder / "about.json").read_text())["rates"])):
        with np.load(folder / f"ours_{step}.npz") as file:
            batch = Batch(**file)
        start = time.perf_counter()
        state, metrics = prepared.train_step(state, frozen, trainer.put(batch, sharding))
        losses.append(float(metrics["loss"]))
        jax.block_until_ready(state)
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "losses": losses, "version": f"jax {jax.__version__}"}


def run_process(way: str, folder: Path, args: argparse.Namespace) -> dict:
    """One timed run in a new process that may use `args.threads` cores and no accelerator."""
    if way == "ours":
        command = [sys.executable, __file__, f"--data={args.data}", f"--inputs={folder}"]
    else:
        peer = Path(__file__).with_name("torch_peer.py")
        command = [args.torch_python, str(peer), str(folder), f"--layout={way}"]
    command.append(f"--threads={args.threads}")
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": str(args.threads),
    }
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="The demo's data folder.")
    parser.add_argument("--torch_python", default=sys.executable, help="A Python with torch.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="Timed steps of a run.")
    parser.add_argument("--inputs", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inputs:
        print(json.dumps(ours(args.inputs, args.data)))
        return
    # Before any thread exists: threads and processes made from here on keep to these cores.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), args)


def compare(folder: Path, args: argparse.Namespace) -> None:
    """Alternate the three, check their losses, print the figures."""
    about = write_inputs(folder, args.data, WARM + args.steps)
    rows, length = about["rows"]
    print(
        f"{about['parameters']:,} parameters, float32, {args.threads} threads of {os.cpu_count()},"
        f" Python {platform.python_version()}, {platform.machine()}\n"
        f"packed: {rows} x {length} positions {about['fill'][0]:.1%} full, {rows * about['slots']}"
        f" image slots; padded: {min(about['samples'])} to {max(about['samples'])} samples of"
        f" {about['longest'][0]} to {about['longest'][1]} positions {about['fill'][1]:.1%} full"
    )
    timed = about["samples"][WARM:]
    speeds, best = ({way: [] for way in NAMES} for _ in range(2))
    versions = {}
    for number in range(args.rounds):
        reference = None
        for way in NAMES:
            result = run_process(way, folder, args)
            reference = reference or result["losses"]
            np.testing.assert_allclose(result["losses"], reference, rtol=2e-3, err_msg=NAMES[way])
            seconds = result["seconds"][WARM:]
            speeds[way].append(sum(timed) / sum(seconds))
            best[way].append(max(n / s for n, s in zip(timed, seconds, strict=True)))
            versions[way] = result["version"]
        shown = ", ".join(f"{NAMES[way]} {speeds[way][-1]:.0f}" for way in NAMES)
        print(f"round {number + 1}: samples/s {shown}", flush=True)
    best = {way: max(values) for way, values in best.items()}
    middle = {way: statistics.median(values) for way, values in speeds.items()}
    for way, title in NAMES.items():
        line = f"{title:14} {middle[way]:7.1f} samples/s ({min(speeds[way]):.0f} to"
        line += f" {max(speeds[way]):.0f}), quickest step {best[way]:.0f}; {versions[way]}"
        if way != "ours":
            ratios = middle["ours"] / middle[way], best["ours"] / best[way]
            line += "; ours is {:.2f} x, by the quickest steps {:.2f} x".format(*ratios)
        print(line)
    print(f"load average {os.getloadavg()[0]:.1f}: other work on the machine changes the figures")


if __name__ == "__main__":
    main()
