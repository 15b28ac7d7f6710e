"""Samples a second and utilisation of our train step, beside PyTorch eager on the same samples.

    python benchmarks/train_step.py --config=configs/stage1.py:demo,data=runs/demo/data \\
        --data [--torch_python=PYTHON]
    python benchmarks/train_step.py --config=configs/stage1.py --device=any --no_peer \\
        --set=data.global_rows=24 --set=data.virtual_shards=24 --set=optim.accumulation=6

A stage's config page runs in three ways: our compiled step, the plain PyTorch of `torch_peer.py` on
one sample a row, and the same on our packed rows. Rows are the page's own with `--data`, else made
up: full, every slot filled, no data set and no vocabulary needed. Each run is a process of its own;
the three alternate, and the median over the rounds counts. All start from the same random weights
and see the same samples, so their losses must agree step by step: the script fails if they do not.
Compilation and the first steps are not timed; turning NumPy batches into device arrays is. A step
that needs more memory than the device has is not run: the script says what it needs and fails.

Utilisation is told by two counts: ideal (what the samples must cost) and what our program
multiplies (padding and recomputed blocks as well); of the chip's stated peak where it is known,
else of what one large matmul reaches in the same process.
"""

import argparse
import ast
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

from benchmarks import step_rows

NAMES = {"ours": "ours, packed", "padded": "torch, padded", "packed": "torch, packed"}
WARM = 3  # steps before the clock counts


def parse(args: argparse.Namespace):
    """The page as checked dataclasses: (trainer, stream)."""
    import importlib.util

    from launch import stage

    name, _, variant = args.config.partition(":")
    spec = importlib.util.spec_from_file_location("page", name)
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    config = page.get_config(variant)
    changes = dict(change.split("=", 1) for change in args.set)
    config.update_from_flattened_dict({key: _value(text) for key, text in changes.items()})
    config.init.checkpoint = ""  # random weights
    training, stream, _ = (stage.check if args.data else stage.read)(config)[:3]
    return training, dataclasses.replace(stream, num_workers=0)


def _value(text: str):
    """`8` and `False` as what they look like, all else as text."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def write_inputs(folder: Path, args: argparse.Namespace) -> dict:
    """Batches in both layouts, starting weights and sizes: all that the processes share."""
    import jax

    from qwenvl_jax import trees
    from qwenvl_jax.model import qwenvl
    from qwenvl_jax.train import optim

    training, config = parse(args)
    peer = not args.no_peer
    if peer and (training.optim.vit_layer_decay != 1 or training.optim.accumulation != 1):
        raise SystemExit(
            "the peer knows neither config.optim.vit_layer_decay nor config.optim.accumulation: set"
            " both to 1, or give --no_peer"
        )
    steps = WARM + args.steps
    samples, fill, length = [], [], []
    for step, batch in enumerate(step_rows.batches(training, config, steps, read=args.data)):
        padded = step_rows.unpack(batch)
        np.savez(folder / f"ours_{step}.npz", **batch._asdict())
        if peer:  # PyTorch's embedding and loss want 64-bit labels
            wide = {"targets": batch.targets.astype(np.int64)}
            np.savez(folder / f"packed_{step}.npz", **(batch._asdict() | wide))
            wide = {"targets": padded["targets"].astype(np.int64)}
            np.savez(folder / f"padded_{step}.npz", **(padded | wide))
        samples.append(len(padded["tokens"]))
        fill.append([float((x > 0).mean()) for x in (batch.segments, padded["segments"])])
        length.append(padded["tokens"].shape[1])
    if peer:
        make = jax.jit(lambda seed: qwenvl.init(training.model, jax.random.key(seed)))
        np.savez(folder / "weights.npz", **jax.device_get(trees.flatten(make(training.seed))))
    rates = optim.schedule(training.optim)
    about = {
        "model": dataclasses.asdict(training.model),
        "optim": dataclasses.asdict(training.optim),
        "rates": [float(rates(step)) for step in range(steps)],
        "samples": samples,
        "fill": np.mean(fill, axis=0).tolist(),
        "rows": list(batch.tokens.shape),
        "slots": config.batch_slots,
        "longest": [min(length), max(length)],
    }
    (folder / "about.json").write_text(json.dumps(about))
    return about


def ours(folder: Path, args: argparse.Namespace) -> dict:
    """Run our compiled step over the batches, then one large matmul."""
    import jax

    from qwenvl_jax.batch import Batch
    from qwenvl_jax.parallel import rules
    from qwenvl_jax.train import program, trainer

    training, config = parse(args)
    began = time.perf_counter()
    prepared = program.prepare(
        training,
        config.batch_shapes(),
        num_sources=len(config.sources),
        group_slots=config.group_slots,
    )
    compiled = time.perf_counter() - began
    memory = program.memory(prepared)
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    needs = ", ".join(f"{kind} {size / 2**30:.1f}" for kind, size in memory.items())
    if limit and sum(memory.values()) > limit:
        raise SystemExit(
            f"compiled in {compiled:.0f} s, needs {sum(memory.values()) / 2**30:.1f} GiB ({needs})"
            f" of {limit / 2**30:.1f}: more microbatches or fewer rows need less"
        )
    state, frozen = trainer.start(training, prepared)
    jax.block_until_ready((state, frozen))
    started = time.perf_counter() - began - compiled
    sharding = rules.batch_sharding(prepared.mesh)
    seconds, losses, work = [], [], []
    for step in range(len(json.loads((folder / "about.json").read_text())["rates"])):
        with np.load(folder / f"ours_{step}.npz") as file:
            batch = Batch(**file)
        work.append(
            step_rows.work(training, batch, jax.default_backend(), slots=config.batch_slots)
        )
        start = time.perf_counter()
        state, metrics = prepared.train_step(state, frozen, trainer.put(batch, sharding))
        losses.append(float(metrics["loss"]))
        jax.block_until_ready(state)
        seconds.append(time.perf_counter() - start)
    parts = state.params, frozen
    return {
        "seconds": seconds,
        "losses": losses,
        "version": f"jax {jax.__version__}",
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(parts)),
        "memory": memory,
        "work": work,
        "compiled": compiled,
        "started": started,
        **step_rows.peak(training.model.dtype, prepared.mesh.devices.size),
    }


def run_process(way: str, folder: Path, args: argparse.Namespace) -> dict:
    """One timed run in a new process."""
    if way == "ours":
        command = [sys.executable, __file__, *sys.argv[1:], f"--inputs={folder}"]
    else:
        peer = Path(__file__).with_name("torch_peer.py")
        command = [args.torch_python, str(peer), str(folder), f"--layout={way}"]
        command += [f"--threads={args.threads}", *["--compile"] * args.compile]
    environment = dict(os.environ)
    environment.pop("JAX_PLATFORMS", None)
    if args.platforms:
        environment["JAX_PLATFORMS"] = args.platforms
    if args.device == "cpu":
        environment |= {
            "JAX_PLATFORMS": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": str(args.threads),
        }
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{NAMES[way]} failed")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="A file of configs/, `:variant` after it.")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE below config.")
    parser.add_argument("--data", action="store_true", help="Rows of the page's own sources.")
    parser.add_argument("--torch_python", default=sys.executable, help="A Python with torch.")
    parser.add_argument("--no_peer", action="store_true", help="Our step alone.")
    parser.add_argument("--peers", default="padded,packed", help="PyTorch's layouts.")
    parser.add_argument("--compile", action="store_true", help="torch.compile the peer's blocks.")
    parser.add_argument("--json", type=Path, help="A file that gets the figures.")
    parser.add_argument("--device", choices=("cpu", "any"), default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="CPU cores, with --device=cpu.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="Timed steps of a run.")
    parser.add_argument("--inputs", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inputs:
        print(json.dumps(ours(args.inputs, args)))
        return
    # This process makes batches and weights; the device's memory belongs to those it starts.
    args.platforms = os.environ.get("JAX_PLATFORMS")
    os.environ["JAX_PLATFORMS"] = "cpu"
    if args.device == "cpu":
        # Before any thread exists: threads and processes made from here on keep to these cores.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), args)


def compare(folder: Path, args: argparse.Namespace) -> None:
    """Alternate the ways, check their losses, print the figures."""
    about = write_inputs(folder, args)
    ways = ["ours", *([] if args.no_peer else args.peers.split(","))]
    timed = about["samples"][WARM:]
    speeds, best = ({way: [] for way in ways} for _ in range(2))
    results = {}
    for number in range(args.rounds):
        for way in ways:
            results[way] = result = run_process(way, folder, args)
            if not np.isfinite(result["losses"]).all():
                raise SystemExit(f"{NAMES[way]}: losses {result['losses']} are not finite")
            limit = 2e-3 if about["model"]["dtype"] == "float32" else 2e-2
            np.testing.assert_allclose(
                result["losses"], results["ours"]["losses"], rtol=limit, err_msg=NAMES[way]
            )
            seconds = result["seconds"][WARM:]
            speeds[way].append(sum(timed) / sum(seconds))
            best[way].append(max(n / s for n, s in zip(timed, seconds, strict=True)))
        shown = ", ".join(f"{NAMES[way]} {speeds[way][-1]:.0f}" for way in ways)
        print(f"round {number + 1}: samples/s {shown}", flush=True)
    tell(args, about, results["ours"], speeds, best, {w: r["version"] for w, r in results.items()})


def tell(args, about: dict, mine: dict, speeds: dict, best: dict, versions: dict) -> None:
    """Print what ran, then each way's medians, ratios and utilisation."""
    rows, length = about["rows"]
    model = about["model"]
    gib = sum(mine["memory"].values()) / 2**30
    print(
        f"{mine['parameters']:,} parameters, {model['dtype']}, remat {model['remat']},"
        f" {mine['device']}, {args.threads} threads of {os.cpu_count()}, Python"
        f" {platform.python_version()}, {platform.machine()}; {gib:.1f} GiB a device, compiled in"
        f" {mine['compiled']:.0f} s, weights made in {mine['started']:.0f} s\n"
        f"packed: {rows} x {length} positions {about['fill'][0]:.1%} full, {about['slots']}"
        f" image slots; padded: {min(about['samples'])} to {max(about['samples'])} samples of"
        f" {about['longest'][0]} to {about['longest'][1]} positions {about['fill'][1]:.1%} full"
    )
    # A mean step's work, and samples, give the work of a sample.
    ideal, hardware, images = (
        sum(step[kind] for step in mine["work"]) / sum(about["samples"])
        for kind in ("ideal", "hardware", "images")
    )
    for way, values in speeds.items():
        middle, quickest = statistics.median(values), max(best[way])
        line = f"{NAMES[way]:14} {middle:7.1f} samples/s ({min(values):.0f} to {max(values):.0f}),"
        line += f" {middle * images:.1f} images/s, quickest step {quickest:.0f},"
        line += f" {middle * ideal / mine['peak']:.1%} of peak by the ideal count"
        if way == "ours":
            line += f", {middle * hardware / mine['peak']:.1%} by what is multiplied"
        else:
            ratios = statistics.median(speeds["ours"]) / middle, max(best["ours"]) / quickest
            line += "; ours is {:.2f} x, by the quickest steps {:.2f} x".format(*ratios)
        print(f"{line}; {versions[way]}")
    if args.json:
        figures = {
            "seconds": {
                way: sum(about["samples"][WARM:]) / args.steps / statistics.median(values)
                for way, values in speeds.items()
            },
            "ideal": ideal * sum(about["samples"]) / len(about["samples"]),
            "images": images * sum(about["samples"]) / len(about["samples"]),
            **{kind: mine[kind] for kind in ("peak", "memory", "parameters", "compiled", "losses")},
        }
        args.json.write_text(json.dumps(figures, indent=1))
    print(
        f"peak {mine['peak'] / 1e12:.3f} TFLOP/s ({mine['peak_is']}); load average"
        f" {os.getloadavg()[0]:.1f}: other work on the machine changes the figures"
    )


if __name__ == "__main__":
    main()
