"""The table of docs/scale.md: every stage on every topology, each compiled by `launch/compile.py`.

    python benchmarks/scale.py --out=runs/scale [--only=stage2_v5e-256,stage2_v5p-128]
    python benchmarks/scale.py --by_sizes

Compiles take minutes each; what is already in the folder is not compiled again. Needs libtpu. With
`--by_sizes` nothing is compiled: FLOPs are counted and memory is guessed from the model's sizes, as
a search does first.
"""

import argparse
import importlib
import math
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from launch.plan import runs
from qwenvl_jax import trees

os.environ["JAX_PLATFORMS"] = "cpu"

# Pods are called by their cores, of which v4 and v5p have two a chip.
TOPOLOGIES = {
    "v4-512": "v4:8x8x4",
    "v5e-256": "v5e:16x16",
    "v5p-128": "v5p:4x4x4",
    "v5p-512": "v5p:4x8x8",
    "v6e-256": "v6e:16x16",
}


class Row(NamedTuple):
    """A stage on a pod: (data, fsdp, tensor), with as many microbatches as the memory asks for."""

    stage: str
    pod: str
    mesh: tuple[int, int, int]
    accumulation: int
    remat: str = "dots"

    @property
    def name(self) -> str:
        return f"{self.stage}_{self.pod}"


ROWS = (
    Row("stage1", "v5e-256", (2, 128, 1), 18),
    Row("stage2", "v5e-256", (1, 128, 2), 8),
    Row("stage2", "v5p-128", (1, 64, 1), 8),
    Row("stage1", "v5p-128", (1, 64, 1), 12),
    Row("stage1", "v4-512", (2, 128, 1), 9),
    Row("stage2", "v4-512", (1, 128, 2), 8),
    Row("stage3", "v5p-128", (1, 32, 2), 1),
    Row("stage2", "v6e-256", (1, 128, 2), 8),
    Row("stage1", "v6e-256", (2, 128, 1), 9),
    Row("stage2", "v5p-512", (2, 128, 1), 2),
    Row("stage1", "v5p-512", (2, 128, 1), 3),
    # 32 rows on 256 chips: eight work on a row together.
    Row("stage3", "v5e-256", (1, 32, 8), 1),
    Row("stage3", "v4-512", (1, 32, 8), 1),
    Row("stage3", "v6e-256", (1, 32, 8), 1),
    Row("stage3", "v5p-512", (1, 32, 8), 1),
)
# Positions of a mean sample, and those with a loss: the paper's padded captions; of the other
# stages an estimate, as the paper gives none.
SAMPLE = {"stage1": 298, "stage2": 512, "stage3": 512}
LABELLED = {"stage1": 32, "stage2": 120, "stage3": 120}


def compile_row(row: Row, out: Path) -> dict[str, Any] | str:
    """A row's plan, or why there is none."""
    mesh = zip(("data", "fsdp", "tensor"), row.mesh, strict=True)
    return runs.compiled(
        [
            f"--config=configs/{row.stage}.py",
            f"--topology={TOPOLOGIES[row.pod]}",
            *(f"--config.mesh.{axis}={size}" for axis, size in mesh),
            f"--config.optim.accumulation={row.accumulation}",
            f"--config.model.remat={row.remat}",
            f"--sample_tokens={SAMPLE[row.stage]}",
            f"--labelled_tokens={LABELLED[row.stage]}",
        ],
        out / row.name,
    )


def line(row: Row, plan: dict[str, Any]) -> str:
    """A row of the table."""
    mesh = " x ".join(str(n) for n in plan["mesh"].values())
    fill = plan["hbm_bytes"] / plan["hbm_limit_bytes"]
    cells = [
        row.stage, row.pod, mesh, plan["accumulation"], plan["remat"],
        f"{plan['hbm_bytes'] / 2**30:.1f} ({fill:.0%})",
        f"{plan['flops_hardware'] / 1e12:,.0f}",
        f"{plan['flops_hardware'] / plan['flops_analytic'] - 1:+.1%}",
        f"{plan['flops_hardware'] / plan['flops_ideal']:.2f}",
        f"{plan['compute_seconds']:.1f} / {plan['hbm_seconds']:.1f} / {plan['ici_seconds']:.1f}",
        f"{plan['mfu']:.0%}", f"{plan['images_per_second']:.1f}",
        f"{plan['stage_days']:.1f}", f"{plan['stage_chip_hours']:,.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


HEAD = (
    "| stage | pod | data x fsdp x tensor | microbatches | remat | GiB a chip | TFLOP a chip |"
    " by sizes | x ideal | compute / memory / links, s | utilisation, at most | images/s a chip |"
    " days | chip-hours |"
)

HEAD_BY_SIZES = (
    "| stage | pod | data x fsdp x tensor | microbatches | remat | GiB, a guess | TFLOP a chip |"
    " x ideal | compute, s | days at peak |"
)


def by_sizes(row: Row) -> str:
    """A row of the other table, without a compiler."""
    import jax

    from launch import stage
    from launch.plan import chips, estimate
    from qwenvl_jax.model import qwenvl
    from qwenvl_jax.train.flops import ideal_step_flops

    page = importlib.import_module(f"configs.{row.stage}").get_config()
    training, stream, _ = stage.read(page)
    batch = stream.batch_shapes()
    sample = SAMPLE[row.stage]
    tokens = float(stream.global_rows * stream.seq_len)
    images = math.prod(batch.image_mask.shape)
    sizes = estimate.Batch(
        rows=stream.global_rows, length=stream.seq_len, images=images,
        unit=stream.global_rows // batch.images.shape[0],
        labelled=tokens / sample * LABELLED[row.stage],
    )  # fmt: skip
    shapes = jax.eval_shape(lambda r: qwenvl.init(training.model, r), jax.random.key(0))
    chip = chips.CHIPS[row.pod.split("-")[0]]
    candidate = estimate.Candidate(*row.mesh, row.accumulation, row.remat)
    given = dict(config=training, shapes=shapes, batch=sizes)
    assert candidate in estimate.candidates(chips=math.prod(row.mesh), **given), row
    guess = estimate.estimate(candidate, chip=chip, **given)
    towers = {
        path.split("/")[0] for path in trees.flatten(shapes) if training.optim.is_trainable(path)
    }
    ideal = ideal_step_flops(
        training.model, towers, images=float(images), tokens=tokens, labelled=sizes.labelled,
        context=sample / 2,
    ) / math.prod(row.mesh)  # fmt: skip
    flops = guess.compute * chip.flops
    mesh = " x ".join(map(str, row.mesh))
    cells = [
        row.stage, row.pod, mesh, row.accumulation, row.remat,
        f"{guess.hbm / 2**30:.0f} of {chip.hbm / 2**30:.0f}", f"{flops / 1e12:,.0f}",
        f"{flops / ideal:.2f}", f"{guess.compute:.1f}",
        f"{training.optim.steps * guess.compute / 86_400:.1f}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="a folder for the plans")
    parser.add_argument("--by_sizes", action="store_true", help="nothing is compiled")
    parser.add_argument("--only", default="", help="names of rows, STAGE_POD, with commas between")
    args = parser.parse_args()
    if args.by_sizes:
        print(HEAD_BY_SIZES + "\n" + "|---" * 10 + "|")
        for row in sorted(ROWS):
            print(by_sizes(row), flush=True)
        return
    if not args.out:
        parser.error("--out is missing: a folder for the plans")
    print(HEAD + "\n" + "|---" * 14 + "|", flush=True)
    for row in ROWS:
        if args.only and row.name not in args.only.split(","):
            continue
        plan = compile_row(row, args.out)
        if isinstance(plan, str):
            print(f"| {row.stage} | {row.pod} | {plan.splitlines()[0]} |" + " |" * 11, flush=True)
        else:
            print(line(row, plan), flush=True)


if __name__ == "__main__":
    main()
