"""The picture of a run's losses. A smoothed curve that lags shows a spike where there was none."""

import json

import numpy as np
from PIL import Image

from qwenvl_jax.train import plots


def test_smoothing_is_the_mean_around_each_value():
    """By brute force; a straight line stays one, and a step is as steep on both sides."""
    values = np.random.default_rng(0).normal(size=100)
    for place, value in enumerate(plots.smooth(values, span=0.05)):
        reach = min(5, place, 99 - place)
        assert np.isclose(value, np.mean(values[place - reach : place + reach + 1]))
    line = np.linspace(3, 1, 50)
    np.testing.assert_allclose(plots.smooth(line), line)
    assert plots.smooth(np.array([2.0])).tolist() == [2.0]


def test_a_run_with_nan_skipped_steps_and_restarts_is_drawn(tmp_path):
    lines = [{"step": n, "loss": 3 - n / 50, "loss/en": 2.5} for n in range(100)]
    lines[40] |= {"loss": "NaN", "skipped_step/loss_not_finite": 1.0}
    lines.insert(50, {"step": 50, "heldout": 2.2, "heldout/en": 2.1})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    (tmp_path / "events.jsonl").write_text('{"event": "resumed", "step": 30}\n')
    plots.plot_losses(tmp_path / "metrics.jsonl", tmp_path / "loss.png")
    assert Image.open(tmp_path / "loss.png").size == (1080, 600)
