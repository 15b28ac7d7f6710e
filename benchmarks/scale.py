"""The table of docs/scale.md: every stage on every topology, each compiled by `launch/compile.py`.

    python benchmarks/scale.py --out=runs/scale [--only=stage2_v5e-256,stage2_v5p-128]
    python benchmarks/scale.py --by_sizes

Compiles take minutes each; what is already in the folder is not compiled again. Needs both
compilers, libtpu and that for CUDA (extras `tpu`, `cuda-compiler`). With `--by_sizes` nothing
is compiled: FLOPs are counted and memory is guessed from the model's sizes, as a search does first.
"""

import argparse
import importlib
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
from ml_collections import ConfigDict

from launch import stage
from launch.plan import chips, estimate, runs
from launch.plan.analytic import kernel_on
from qwenvl_jax import trees
from qwenvl_jax.model import qwenvl
from qwenvl_jax.train.config import TrainConfig
from qwenvl_jax.train.flops import ideal_step_flops

# Pods are called by their cores, of which v4 and v5p have two a chip.
TOPOLOGIES = {
    "v4-512": "v4:8x8x4",
    "v5e-256": "v5e:16x16",
    "v5p-128": "v5p:4x4x4",
    "v5p-512": "v5p:4x8x8",
    "v6e-256": "v6e:16x16",
    "h100-8": "h100:8",
    "h100-64": "h100:8x8",
}
# What GPUs want otherwise than the pages: no copies between stacks and products.
OF_GPUS = {"model.scan_layers": False, "loss_chunk": 512}


class Row(NamedTuple):
    """A stage on a pod: (data, fsdp, tensor), with as many microbatches as the memory asks for, and
    (rows that have image slots together, microbatches these are spread over, so many slots).
    """

    stage: str
    pod: str
    mesh: tuple[int, int, int]
    accumulation: int
    slots: tuple[int, int, int] | None = None  # the page's
    remat: str = "dots"

    @property
    def name(self) -> str:
        return f"{self.stage}_{self.pod}"

    @property
    def platform(self) -> str:
        return "gpu" if self.pod.startswith("h100") else "tpu"

    def page(self) -> ConfigDict:
        """The stage's page."""
        return importlib.import_module(f"configs.{self.stage}").get_config()

    def overrides(self) -> dict[str, Any]:
        """Keys of the page -> values."""
        mesh = zip(("data", "fsdp", "tensor"), self.mesh, strict=True)
        values = {f"mesh.{axis}": size for axis, size in mesh}
        values |= {"optim.accumulation": self.accumulation, "model.remat": self.remat}
        if self.platform == "gpu":
            values |= OF_GPUS
        if self.slots:
            data, (together, turns, slots) = self.page().data, self.slots
            shards = min(data.virtual_shards, data.global_rows // together)
            values |= {"data.slot_rows": together, "data.slot_turns": turns}
            values |= {"data.image_slots": slots, "data.virtual_shards": shards}
        return values


ROWS = (
    Row("stage1", "v4-512", (2, 128, 1), 9),
    Row("stage1", "v5e-256", (2, 128, 1), 18),
    Row("stage1", "v5p-128", (1, 64, 1), 12),
    Row("stage1", "v5p-512", (2, 128, 1), 3),
    Row("stage1", "v6e-256", (2, 128, 1), 9),
    Row("stage2", "v4-512", (1, 64, 4), 4, (4, 1, 15)),
    Row("stage2", "v5e-256", (1, 64, 4), 8, (4, 2, 15)),
    Row("stage2", "v5p-128", (1, 64, 1), 4, (4, 1, 15)),
    Row("stage2", "v5p-512", (2, 128, 1), 1, (4, 1, 15)),
    Row("stage2", "v6e-256", (1, 128, 2), 4, (4, 2, 15)),
    # 32 rows on 256 chips: eight work on a row together.
    Row("stage3", "v4-512", (1, 32, 8), 1),
    Row("stage3", "v5e-256", (1, 32, 8), 1),
    Row("stage3", "v5p-128", (1, 16, 4), 1),
    Row("stage3", "v5p-512", (1, 32, 8), 1),
    Row("stage3", "v6e-256", (1, 32, 8), 1),
    Row("stage1", "h100-8", (1, 8, 1), 96),
    Row("stage1", "h100-64", (8, 8, 1), 12),
    Row("stage2", "h100-8", (1, 8, 1), 64, (4, 2, 15)),
    Row("stage2", "h100-64", (1, 64, 1), 8, (4, 2, 15)),
    Row("stage3", "h100-8", (1, 8, 1), 2),
    Row("stage3", "h100-64", (1, 32, 2), 1),
)
# Positions of a mean sample, and those with a loss: the paper's padded captions; of the other
# stages an estimate, as the paper gives none.
SAMPLE = {"stage1": 298, "stage2": 512, "stage3": 512}
LABELLED = {"stage1": 32, "stage2": 120, "stage3": 120}
# Of a mean row, as `benchmarks/balance.py` counts them; what the ViT makes of other slots is waste.
PICTURES = {"stage1": 6.83, "stage2": 3.65, "stage3": 4.0}


def compile_row(row: Row, out: Path) -> dict[str, Any] | str:
    """A row's plan, or why there is none."""
    return runs.compiled(
        [
            f"--config=configs/{row.stage}.py",
            f"--topology={TOPOLOGIES[row.pod]}",
            *(f"--config.{key}={value}" for key, value in row.overrides().items()),
            f"--sample_tokens={SAMPLE[row.stage]}",
            f"--labelled_tokens={LABELLED[row.stage]}",
        ],
        out / row.name,
    )


class Step(NamedTuple):
    """What is computed in a step of a row."""

    config: TrainConfig
    batch: estimate.Batch  # its `images` are slots
    shapes: trees.Tree  # all parameters
    ideal: float  # FLOPs a chip, every slot filled
    of_pictures: float  # the same of as many pictures as there are

    @property
    def slots(self) -> str:
        together = self.batch.unit * self.batch.turns
        each = self.batch.images * together // self.batch.rows
        turns = f" in {self.batch.turns}" if self.batch.turns > 1 else ""
        return f"{each} for {together} rows{turns}" if together > 1 else f"{each} a row"


def step_of(row: Row) -> Step:
    """From the page and the row's own keys."""
    page = row.page()
    page.update_from_flattened_dict(row.overrides())
    config, stream, _ = stage.read(page)
    rows, sample = stream.global_rows, SAMPLE[row.stage]
    tokens = float(rows * stream.seq_len)
    batch = estimate.Batch(
        rows=rows, length=stream.seq_len, images=stream.batch_slots, unit=stream.group_rows,
        turns=stream.slot_turns, labelled=tokens / sample * LABELLED[row.stage],
    )  # fmt: skip
    shapes = jax.eval_shape(lambda r: qwenvl.init(config.model, r), jax.random.key(0))
    trained = {p.split("/")[0] for p in trees.flatten(shapes) if config.optim.is_trainable(p)}

    def ideal(images: float) -> float:
        about = dict(images=images, tokens=tokens, labelled=batch.labelled, context=sample / 2)
        return ideal_step_flops(config.model, trained, **about) / math.prod(row.mesh)

    return Step(
        config, batch, shapes, ideal(float(batch.images)), ideal(rows * PICTURES[row.stage])
    )


BOUNDS = ("compute", "hbm", "link", "network")
HEAD = (
    "| stage | pod | data x fsdp x tensor | microbatches | slots | GiB a chip | TFLOP a chip |"
    " by sizes | x ideal | of pictures alone | compute / memory / links / network, s |"
    " utilisation, at most | pictures/s a chip | days | chip-hours |"
)


def line(row: Row, plan: dict[str, Any]) -> str:
    """A row of the table."""
    step = step_of(row)
    fill = plan["hbm_bytes"] / plan["hbm_limit_bytes"]
    pictures = step.batch.rows * PICTURES[row.stage] / plan["chips"] / plan["step_seconds"]
    cells = [
        row.stage, row.pod, " x ".join(map(str, row.mesh)), row.accumulation, step.slots,
        f"{plan['hbm_bytes'] / 2**30:.1f} ({fill:.0%})",
        f"{plan['flops_hardware'] / 1e12:,.0f}",
        f"{plan['flops_hardware'] / plan['flops_analytic'] - 1:+.1%}",
        f"{plan['flops_hardware'] / step.ideal:.2f}",
        f"{plan['flops_hardware'] / step.of_pictures:.2f}",
        " / ".join(f"{plan[f'{kind}_seconds']:.2f}" for kind in BOUNDS),
        f"{plan['mfu']:.0%}", f"{pictures:.1f}",
        f"{plan['stage_days']:.2f}", f"{plan['stage_chip_hours']:,.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


HEAD_BY_SIZES = (
    "| stage | pod | data x fsdp x tensor | microbatches | slots | GiB, a guess | TFLOP a chip |"
    " x ideal | of pictures alone | compute, s | days at peak |"
)


def guess_of(row: Row, step: Step) -> estimate.Estimate:
    """What a search first thinks of a row.

    Raises:
      ValueError: the trainer would refuse it.
    """
    chip = chips.CHIPS[row.pod.split("-")[0]]
    kernel = kernel_on(row.platform)
    given = dict(config=step.config, shapes=step.shapes, batch=step.batch)
    candidate = estimate.Candidate(*row.mesh, row.accumulation, row.remat)
    if candidate not in estimate.candidates(chips=math.prod(row.mesh), **given):
        raise ValueError(f"{row.name}: the sizes of {candidate} do not divide")
    return estimate.estimate(candidate, chip=chip, kernel=kernel, **given)


def by_sizes(row: Row) -> str:
    """A row of the other table, without a compiler."""
    step, chip = step_of(row), chips.CHIPS[row.pod.split("-")[0]]
    guess = guess_of(row, step)
    flops = guess.compute * chip.flops
    cells = [
        row.stage, row.pod, " x ".join(map(str, row.mesh)), row.accumulation, step.slots,
        f"{guess.hbm / 2**30:.0f} of {chip.hbm / 2**30:.0f}", f"{flops / 1e12:,.0f}",
        f"{flops / step.ideal:.2f}", f"{flops / step.of_pictures:.2f}", f"{guess.compute:.2f}",
        f"{step.config.optim.steps * guess.compute / 86_400:.2f}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="a folder for the plans")
    parser.add_argument("--by_sizes", action="store_true", help="nothing is compiled")
    parser.add_argument("--only", default="", help="names of rows, STAGE_POD, with commas between")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")  # an accelerator is nothing to a table of others
    if args.by_sizes:
        print(HEAD_BY_SIZES + "\n" + "|---" * 11 + "|")
        for row in ROWS:
            print(by_sizes(row), flush=True)
        return
    if not args.out:
        parser.error("--out is missing: a folder for the plans")
    print(HEAD + "\n" + "|---" * 15 + "|", flush=True)
    for row in ROWS:
        if args.only and row.name not in args.only.split(","):
            continue
        plan = compile_row(row, args.out)
        if isinstance(plan, str):
            print(f"| {row.stage} | {row.pod} | {plan.splitlines()[0]} |" + " |" * 12, flush=True)
        else:
            print(line(row, plan), flush=True)


if __name__ == "__main__":
    main()
