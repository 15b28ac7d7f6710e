"""Loss curves of a run as a picture."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from qwenvl_jax.train.metrics import read_metrics


def plot_losses(metrics: str | Path, out: str | Path) -> None:
    """Training losses (smoothed, the raw ones faint) and held-out losses against the step, a colour
    per source or language.
    """
    lines = read_metrics(metrics)
    names = sorted({n for line in lines for n in line if n.split("/")[0] in ("loss", "heldout")})
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    colours = dict(zip(sorted({n.partition("/")[2] for n in names}), plt.cm.tab10.colors * 9))
    for name in names:
        points = np.array([(line["step"], line[name]) for line in lines if name in line])
        colour = colours[name.partition("/")[2]]
        if name.startswith("heldout"):
            axes.plot(*points.T, "o--", color=colour, label=name)
            continue
        axes.plot(*points.T, color=colour, alpha=0.2, linewidth=0.8)
        axes.plot(points[:, 0], smooth(points[:, 1]), color=colour, label=name)
    axes.set(xlabel="step", ylabel="loss, nats a labelled token")
    axes.grid(alpha=0.3)
    if names:
        axes.legend(fontsize=8)
    figure.savefig(out, dpi=120)
    plt.close(figure)


def smooth(values: np.ndarray, keep: float = 0.95) -> np.ndarray:
    """Exponential mean without the pull of its start."""
    total, weight, out = 0.0, 0.0, []
    for value in values:
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        out.append(total / weight)
    return np.array(out)
