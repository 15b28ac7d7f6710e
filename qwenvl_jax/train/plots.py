"""Loss curves of a run as a picture."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from qwenvl_jax.train import events
from qwenvl_jax.train.metrics import read_metrics

SPAN = 0.02  # of a run's steps on each side that a smoothed value is the mean of


def plot_losses(metrics: str | Path, out: str | Path) -> None:
    """Losses against the step, in nats a labelled token: a colour a source or language.

    Training losses are smoothed lines over their faint raw values, held-out ones circles joined by
    dashes. Skipped steps and restarts are marked on the axis of steps.
    """
    metrics = Path(metrics)
    lines = [line for line in read_metrics(metrics) if "step" in line]
    names = sorted({n for line in lines for n in line if n.split("/")[0] in ("loss", "heldout")})
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    groups = sorted({name.partition("/")[2] for name in names})
    colours = dict(zip(groups, plt.cm.tab10.colors * (1 + len(groups) // 10), strict=False))
    for name in names:
        kind, _, group = name.partition("/")
        points = np.array([(m["step"], m[name]) for m in lines if name in m], float)
        points = points[np.isfinite(points[:, 1])]
        label = f"{'held out' if kind == 'heldout' else 'training'}: {group or 'all'}"
        if kind == "heldout":
            axes.plot(*points.T, "o--", color=colours[group], markersize=4, label=label)
            continue
        axes.plot(*points.T, color=colours[group], alpha=0.2, linewidth=0.8)
        axes.plot(points[:, 0], smooth(points[:, 1]), color=colours[group], label=label)
    _mark(axes, lines, metrics.parent)
    axes.set(
        title=f"Losses of {metrics.absolute().parent.name}",
        xlabel="step",
        ylabel="cross-entropy, nats a labelled token",
    )
    axes.grid(alpha=0.3)
    if names:
        axes.legend(fontsize=8)
    figure.savefig(out, dpi=120)
    plt.close(figure)


def _mark(axes: Any, lines: list[dict[str, Any]], workdir: Path) -> None:
    """Skipped steps as crosses and restarts as triangles, at the lower edge."""
    skipped = [m["step"] for m in lines if any(n.startswith("skipped_step/") for n in m)]
    again = [e["step"] for e in events.read(workdir) if e.get("event") in ("resumed", "restarted")]
    edge = axes.get_xaxis_transform()
    given = dict(transform=edge, linestyle="none", clip_on=False)
    if skipped:
        axes.plot(skipped, [0.01] * len(skipped), "x", color="red", label="skipped step", **given)
    if again:
        axes.plot(again, [0.01] * len(again), "^", color="black", label="resumed", **given)


def smooth(values: np.ndarray, span: float = SPAN) -> np.ndarray:
    """The mean of the values around each one: centred, so that it lags behind nothing.

    Args:
      values: (N,), finite.
      span: how far the window reaches to each side, as a share of N; at the ends as far as there
      are as many values on both sides.
    """
    count = len(values)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    here = np.arange(count)
    reach = np.minimum(round(span * count), np.minimum(here, count - 1 - here))
    return (sums[here + reach + 1] - sums[here - reach]) / (2 * reach + 1)
