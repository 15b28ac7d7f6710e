"""The table of docs/scale.md: every stage on every topology, each compiled by `launch/compile.py`.

    python benchmarks/scale.py --out=runs/scale

Compiles take minutes each; what is already in the folder is not compiled again. Needs libtpu.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Row(NamedTuple):
    pod: str
    topology: str
    page: str
    overrides: dict[str, int | str]

    @property
    def name(self) -> str:
        return f"{self.page}_{self.pod}"


def _row(pod: str, topology: str, page: str, **overrides: int | str) -> Row:
    return Row(pod, topology, page, overrides)


# Meshes in which every dim divides, with as many microbatches as the memory asks for; more of them
# change memory alone.
ROWS = (
    _row("v5e-256", "v5e:16x16", "stage1", data=2, fsdp=128),
    _row("v5e-256", "v5e:16x16", "stage2", fsdp=128),
    _row("v5p-128", "v5p:4x4x4", "stage1", fsdp=64, accumulation=24),
    _row("v5p-128", "v5p:4x4x4", "stage2", fsdp=32, accumulation=16),
    _row("v5p-128", "v5p:4x4x4", "stage3", fsdp=32, accumulation=1),
    _row("v6e-256", "v6e:16x16", "stage1", data=2, fsdp=128),
    _row("v6e-256", "v6e:16x16", "stage2", fsdp=128),
    _row("v5p-512", "v5p:4x8x8", "stage1", data=2, fsdp=128),
    _row("v5p-512", "v5p:4x8x8", "stage2", fsdp=128),
)
# Positions of a mean sample, and those with a loss: the paper's padded captions; of the other
# stages an estimate, as the paper gives none.
SAMPLE = {"stage1": 298, "stage2": 512, "stage3": 512}
LABELLED = {"stage1": 32, "stage2": 120, "stage3": 120}
_KEYS = {"data": "mesh.data", "fsdp": "mesh.fsdp", "tensor": "mesh.tensor"}
_KEYS |= {"accumulation": "optim.accumulation", "remat": "model.remat"}


def compile_row(row: Row, out: Path) -> str:
    """Compile one row unless its plan is there; returns the compiler's error or ""."""
    folder = out / row.name
    if (folder / "plan.json").exists():
        return ""
    values = [f"--config.{_KEYS[key]}={value}" for key, value in row.overrides.items()]
    command = [sys.executable, "launch/compile.py", f"--config=configs/{row.page}.py"]
    command += [f"--topology={row.topology}", f"--out={folder}", *values]
    command += [f"--sample_tokens={SAMPLE[row.page]}", f"--labelled_tokens={LABELLED[row.page]}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if (folder / "plan.json").exists():
        return ""
    told = [line for line in done.stderr.splitlines() if line.startswith("compile: ")]
    return told[-1] if told else done.stderr[-300:]


def line(row: Row, out: Path) -> str:
    """A row of the table."""
    plan = json.loads((out / row.name / "plan.json").read_text())
    mesh = " x ".join(str(n) for n in plan["mesh"].values())
    fill = plan["hbm_bytes"] / plan["hbm_limit_bytes"]
    cells = [
        row.page, row.pod, mesh, plan["accumulation"], plan["remat"],
        f"{plan['hbm_bytes'] / 2**30:.1f} ({fill:.0%})",
        f"{plan['flops_hardware'] / 1e12:,.0f}",
        f"{plan['flops_hardware'] / plan['flops_ideal']:.2f}",
        f"{plan['compute_seconds']:.1f} / {plan['hbm_seconds']:.1f} / {plan['ici_seconds']:.1f}",
        f"{plan['mfu']:.0%}", f"{plan['images_per_second']:.1f}",
        f"{plan['stage_days']:.1f}", f"{plan['stage_chip_hours']:,.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


HEAD = (
    "| stage | pod | data x fsdp x tensor | microbatches | remat | GiB a chip | TFLOP a chip |"
    " x ideal | compute / memory / links, s | utilisation, at most | images/s a chip | days |"
    " chip-hours |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for the plans")
    args = parser.parse_args()
    print(HEAD + "\n" + "|---" * 13 + "|", flush=True)
    for row in ROWS:
        error = compile_row(row, args.out)
        told = f"| {row.page} | {row.pod} | {error} |" + " |" * 10
        print(told if error else line(row, args.out), flush=True)


if __name__ == "__main__":
    main()
