"""Everything that only one large GPU can tell, in one command of a few minutes.

    python benchmarks/h100.py --out=FOLDER [--parts=attention,stage1] [--seconds=400]
    python benchmarks/h100.py --out=FOLDER --small         # a rehearsal on any machine

Parts run one after another, each with a limit of its own, the most important first; one that fails
or runs out of time ends nothing but itself, and one for which too little of `--seconds` is left is
not begun. A table comes last; logs and figures go to the folder.

attention    packed rows and the ViT's full ones: values, gradients, time, beside PyTorch's SDPA
stage1       a step of the released sizes: ViT and adapter trained, decoder frozen in bfloat16
vit          the released ViT alone, forward and backward, beside PyTorch
decode       greedy decoding at one row, Qwen-7B's sizes
stage2       two depths at full width, everything trained; a layer is the difference
loss         the loss head beside full logits, 4,096 positions, all labelled
peer         the shallow one of stage2 beside PyTorch eager, our samples one a row
memory       a run that does not fit: its report
recipe       the recipe's GPU variant on few scenes, few steps

`XLA_FLAGS` and `JAX_PLATFORMS` are handed on.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.bench import Bench, about, chosen, roomy_folder


@dataclasses.dataclass
class Part:
    """What a part has to say, and the seconds it may take."""

    limit: int
    run: Callable[[Bench], Iterator[str]]


def attention(bench: Bench) -> Iterator[str]:
    rows = ["--rows=4", "--length=2048", "--heads=32", "--width=128", "--samples=8"]
    full = ["--full", "--rows=28", "--length=1024", "--heads=16", "--width=104"]
    if bench.small:
        rows = ["--rows=1", "--length=256", "--heads=2", "--width=64", "--samples=4"]
        full = ["--full", "--rows=1", "--length=64", "--heads=2", "--width=104"]
    for log, flags in (("attention_packed", rows), ("attention_full", full)):
        try:
            said = bench.benchmark(log, "attention.py", *flags, bench.torch, fraction=0.8)
        except RuntimeError as error:  # the other one may work
            yield f"FAILED {error}"
        else:
            yield from chosen(said, r"off by|ms,|without cuDNN")


UNROLLED = {"model.remat": "dots", "model.scan_layers": False}


def stage1(bench: Bench) -> Iterator[str]:
    """Two rows a microbatch; where they do not fit, one. Layers in a row: slow to compile, and no
    copies of weights and activations between stacks and products.
    """
    changes = {"mesh.fsdp": 1, "loss_chunk": 512, "data.global_rows": 24} | UNROLLED
    if bench.small:
        changes |= {"data.global_rows": 2}
    for accumulation in (1, 2) if bench.small else (12, 24):
        changes["optim.accumulation"] = accumulation
        changes["data.virtual_shards"] = changes["data.global_rows"]
        rows = changes["data.global_rows"] // accumulation
        try:
            said, _ = bench.step(f"stage1_{rows}", "stage1.py", changes, "--no_peer")
        except RuntimeError as error:
            yield f"{rows} rows a microbatch: FAILED {error}"
        else:
            yield f"{rows} rows a microbatch, {accumulation} of them:"
            yield from chosen(said, r"parameters,|of peak|^peak|without cuDNN")
            return


def vit(bench: Bench) -> Iterator[str]:
    flags = ["--released", "--images=32", "--remat=dots", "--rounds=5"]
    if bench.small:
        flags = ["--images=2", "--remat=dots", "--rounds=2"]
    said = bench.benchmark("vit", "vit.py", *flags, bench.torch, fraction=0.95)
    yield from chosen(said, r"peak|without cuDNN")


def decode(bench: Bench) -> Iterator[str]:
    flags = ["--config=configs/stage1.py", "--rows=1", "--prompt=256", "--new=65", "--rounds=3"]
    if bench.small:
        flags = ["--rows=1", "--prompt=32", "--new=5", "--rounds=1"]
    said = bench.benchmark("decode", "decode.py", *flags, fraction=0.95)
    yield from said.splitlines()[-3:]


STAGE2 = {
    "mesh.fsdp": 1,
    "mesh.tensor": 1,
    "model.vit.position_grid": 32,  # the peer does not resample
    "loss_chunk": 512,
    "optim.accumulation": 1,
    "data.slot_turns": 1,
    "data.slot_rows": 1,
    "data.image_slots": 4,
    "optim.vit_layer_decay": 1.0,
    **UNROLLED,
}
UNITS = 16  # of 3 ViT layers and 2 of the decoder: what the whole model has


def depth(units: int, rows: int) -> dict:
    return STAGE2 | {
        "data.global_rows": rows,
        "data.virtual_shards": rows,
        "model.vit.layers": 3 * units,
        "model.decoder.layers": 2 * units,
    }


def stage2(bench: Bench) -> Iterator[str]:
    """A unit of layers is what a step of two units takes more than one of one."""
    rows, found = 1 if bench.small else 4, {}
    for units in (1, 2):
        said, found[units] = bench.step(
            f"stage2_{units}", "stage2.py", depth(units, rows), "--no_peer"
        )
        yield from chosen(said, r"of peak|without cuDNN")
    seconds, ideal = (
        [found[units]["seconds"]["ours"] for units in (1, 2)],
        [found[units]["ideal"] for units in (1, 2)],
    )
    layer, work = seconds[1] - seconds[0], ideal[1] - ideal[0]
    peak = found[1]["peak"]
    whole = seconds[0] + (UNITS - 1) * layer
    yield (
        f"3 + 2 layers, {rows} rows: {layer * 1e3:.1f} ms, {work / layer / peak:.1%} of peak by the"
        f" ideal count; all {UNITS} of them and the rest, extrapolated:"
        f" {(ideal[0] + (UNITS - 1) * work) / whole / peak:.1%},"
        f" {found[1]['images'] / whole:.1f} images/s"
    )


def peer(bench: Bench) -> Iterator[str]:
    rows = 1 if bench.small else 4  # as in stage2, whose program is then compiled already
    said, _ = bench.step("peer", "stage2.py", depth(1, rows), "--peers=padded", bench.torch)
    yield from chosen(said, r"of peak|packed:|without cuDNN")


def loss(bench: Bench) -> Iterator[str]:
    flags = ["--rows=2", "--length=2048", "--width=4096", "--vocab=151936", "--chunk=512"]
    if bench.small:
        flags = ["--rows=1", "--length=128", "--width=64", "--vocab=1000", "--chunk=32"]
    flags += ["--labelled=1", bench.torch]
    said = bench.benchmark("loss", "loss.py", *flags, fraction=0.5)
    yield from said.splitlines()[-4:]


def memory(bench: Bench) -> Iterator[str]:
    """Activations of 256 rows without recomputation, on scenes: far more than a device has."""
    data = bench.scratch / "few"
    bench.python(
        "memory", "-m", "data_pipelines.build", "scenes", f"--out={data}", "--scenes=600",
        "--eval_scenes=20", "--text_scenes=20", "--vocab_size=512",
    )  # fmt: skip
    sizes = {
        "model.dtype": "bfloat16",
        "model.scan_layers": True,
        "model.adapter.heads": 32,
        "model.decoder.width": 4096,
        "model.decoder.heads": 32,
        "model.decoder.layers": 16,
        "model.decoder.mlp_width": 11_008,
        "data.global_rows": 256,
        "data.virtual_shards": 8,
    }
    if bench.small:  # it fits, and the run ends
        sizes = {"optim.steps": 2, "optim.warmup_steps": 1}
    try:
        said = bench.python(
            "memory",
            "launch/run.py",
            f"--config=configs/stage1.py:demo,data={data}",
            f"--workdir={bench.scratch / 'memory'}",
            *(f"--config.{key}={value}" for key, value in sizes.items()),
            fraction=0.92,
        )
    except RuntimeError:
        said = (bench.out / "memory.log").read_text(errors="replace")
    yield from chosen(said[said.rfind("run:") :], r"RESOURCE|GiB|as compiled|shrink|Error")


def recipe(bench: Bench) -> Iterator[str]:
    workdir = bench.scratch / "recipe"
    try:
        bench.python("recipe", __file__, f"--out={workdir}", "--recipe", *small_flag(bench))
    except RuntimeError as error:
        yield f"FAILED {error}"
    with contextlib.suppress(FileNotFoundError):
        wall = json.loads((workdir / "seconds.json").read_text())["wall"]
        yield "seconds: " + ", ".join(f"{name} {n:.0f}" for name, n in wall.items())


def small_flag(bench: Bench) -> list[str]:
    return ["--small"] * bench.small


def short_recipe(workdir: Path, *, small: bool) -> None:
    """The recipe's GPU variant on few scenes, a few steps of each stage."""
    from absl import flags, logging

    from launch import logs
    from launch import recipe as whole

    flags.FLAGS(["recipe"])
    logging.use_absl_handler()
    logs.start()
    config = whole.VARIANTS["cpu" if small else "gpu"]
    few = 100 if small else 1000
    scenes = config.scenes._replace(
        scenes=few, text_scenes=few, task_scenes=few, eval_scenes=20, vocab_size=512
    )
    config = dataclasses.replace(config, scenes=scenes, steps=0.002 if small else 0.01, records=10)
    whole.run(workdir, config)


PARTS = {
    "attention": Part(120, attention),
    "stage1": Part(300, stage1),
    "vit": Part(110, vit),
    "decode": Part(110, decode),
    "stage2": Part(150, stage2),
    "loss": Part(60, loss),
    "peer": Part(110, peer),
    "memory": Part(100, memory),
    "recipe": Part(170, recipe),
}
LEAST = 20  # seconds: with less left, a part is not begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="Folder for logs and figures.")
    parser.add_argument("--parts", default=",".join(PARTS), help="What runs, in this order.")
    parser.add_argument("--seconds", type=float, default=400, help="For all of them.")
    parser.add_argument("--torch_python", default=sys.executable, help="A Python with torch.")
    parser.add_argument("--small", action="store_true", help="Small sizes: a rehearsal.")
    parser.add_argument("--recipe", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.recipe:
        short_recipe(args.out, small=args.small)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    scratch = roomy_folder()
    scratch.mkdir(exist_ok=True)
    bench = Bench(
        args.out.resolve(), scratch, small=args.small, seconds=args.seconds, torch=args.torch_python
    )
    table = ["; ".join(about())]
    print(table[0], flush=True)
    for name in args.parts.split(","):
        part, began = PARTS[name], time.monotonic()
        lines: list[str] = []
        if bench.left() < LEAST:
            lines.append(f"not begun: {bench.left():.0f} s left")
        else:
            bench.deadline = began + min(part.limit, bench.left())
            try:
                lines.extend(part.run(bench))
            except Exception as error:  # the next part may well work
                lines.append(f"FAILED {type(error).__name__} {error}")
        entry = [f"== {name}, {time.monotonic() - began:.0f} s", *(f"  {line}" for line in lines)]
        print(*entry, sep="\n", flush=True)
        table += entry
        (args.out / "table.txt").write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    main()
