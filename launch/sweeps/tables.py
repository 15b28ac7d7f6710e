"""The sweep's numbers as CSV for programs and Markdown for documents."""

import csv
from collections.abc import Sequence
from pathlib import Path

from launch.sweeps.compare import Comparison
from launch.sweeps.costs import COLUMNS
from launch.sweeps.curves import AMOUNTS, Curve
from launch.sweeps.results import Results


def write_runs(results: Results, out: Path) -> None:
    """A row a run, a column a figure."""
    columns = list(dict.fromkeys(name for values in results.by_run.values() for name in values))
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["run", *columns])
        writer.writeheader()
        writer.writerows({"run": run, **values} for run, values in results.by_run.items())


def write_arms(results: Results, out: Path) -> None:
    """A row an arm, a mean and half an interval a figure, then costs."""
    figures = results.figures() | results.costs
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["arm", *(f"{n}{end}" for n in figures for end in ("", " +-"))])
        for arm in results.arms:
            cells = [c.get(arm, "") for f in figures.values() for c in (f.mean, f.interval)]
            writer.writerow([arm, *cells])


def write_curves(curves: Sequence[Curve], out: Path) -> None:
    """A row a step of a run."""
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["arm", "seed", "step", *AMOUNTS, "smoothed_loss"])
        for curve in curves:
            for step, loss in enumerate(curve.loss):
                spent = [curve.amounts[name][step] for name in AMOUNTS]
                writer.writerow([curve.arm, curve.seed, step, *spent, loss])


def markdown(results: Results) -> str:
    """A row an arm: losses, scores and costs, with intervals."""
    figures = results.figures() | {COLUMNS[n]: c for n, c in results.costs.items()}
    lines = ["| arm | " + " | ".join(figures) + " |", "|" + "---|" * (len(figures) + 1)]
    for arm in results.arms:
        lines.append(f"| {arm} | " + " | ".join(cell(f, arm) for f in figures.values()) + " |")
    return "\n".join(lines)


def cell(found: Comparison, arm: str) -> str:
    """`1.234 ± 0.056`; costs that do not vary have no interval."""
    if arm not in found.mean:
        return "-"
    half = found.interval.get(arm, 0.0)
    return number(found.mean[arm]) + (f" ± {number(half)}" if half > 0 else "")


def number(value: float) -> str:
    """Three decimals, or four figures of what is large."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
