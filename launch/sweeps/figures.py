"""The sweep's pictures: a loss curve an arm with its spread over seeds, and score against cost."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from launch.sweeps.compare import half_width
from launch.sweeps.curves import Amount, Curve, bands
from launch.sweeps.results import LOWER_IS_BETTER, Results

LABELS: dict[Amount, str] = {
    "samples": "samples seen",
    "flops": "ideal FLOPs of training",
    "seconds": "seconds of training",
}
COLUMNS = 3  # of panels


def plot_curves(curves: Sequence[Curve], amount: Amount, out: Path) -> None:
    """Smoothed training loss against an amount: the mean over seeds, and its 95 % interval."""
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    lowest, highest = np.inf, -np.inf
    for colour, band in zip(_colours(), bands(curves, amount)):
        mean = band.losses.mean(0)
        axes.plot(band.x, mean, color=colour, label=band.arm)
        if len(band.losses) > 1:
            half = np.array([half_width(column) for column in band.losses.T])
            axes.fill_between(band.x, mean - half, mean + half, color=colour, alpha=0.15, lw=0)
        lowest, highest = min(lowest, mean.min()), max(highest, mean.max())
    room = 0.05 * (highest - lowest) or 0.05
    axes.set_ylim(lowest - room, highest + room)
    axes.set(xlabel=LABELS[amount], ylabel="training loss, nats a labelled token")
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, out)


def plot_scores(results: Results, out: Path) -> None:
    """Every score against the FLOPs of a sample, with intervals over seeds; a panel each."""
    names = list(results.scores)
    rows = -(-len(names) // COLUMNS)
    size = (4 * COLUMNS, 3.2 * rows)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=size, layout="constrained", squeeze=False)
    for panel in axes.flat[len(names) :]:
        panel.axis("off")
    cost = results.costs["gflops_per_sample"].mean
    for panel, name in zip(axes.flat, names):
        found = results.scores[name]
        for colour, arm in zip(_colours(), results.arms):
            if arm in found.mean:
                half = found.interval.get(arm, 0.0)
                point = (cost[arm], found.mean[arm])
                panel.errorbar(*point, yerr=half, fmt="o", color=colour, label=arm, capsize=3)
        better = "lower" if name.split()[-1] in LOWER_IS_BETTER else "higher"
        panel.set_title(f"{name} ({better} is better)", fontsize=9)
        panel.set_xlabel("ideal GFLOPs a sample", fontsize=8)
        panel.grid(alpha=0.3)
    if names:
        axes.flat[0].legend(fontsize=7)
    _save(figure, out)


def _colours() -> list:
    return list(plt.cm.tab10.colors) * 10


def _save(figure, out: Path) -> None:
    figure.savefig(out, dpi=120)
    plt.close(figure)
