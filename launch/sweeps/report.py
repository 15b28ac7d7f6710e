"""WORKDIR/report: report.html, its pictures, results.json and CSV tables, of what is finished."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.sweeps import figures, page, sweep_file, tables
from launch.sweeps.answers import side_by_side
from launch.sweeps.curves import AMOUNTS
from launch.sweeps.plan import Run
from launch.sweeps.results import Results, as_json, collect


def write_report(runs: Sequence[Run], workdir: Path, *, released: str = "") -> Results:
    """Report the finished runs of a sweep.

    Args:
      released: a JSON file {arm: {figure: value}} of the released size's costs; may be empty.

    Raises:
      ValueError: no run is finished, or `released` is no such file.
    """
    at_full_size = _released(released)
    results, about, out = collect(runs), sweep_file.read(workdir), workdir / "report"
    out.mkdir(exist_ok=True)
    pictures = {}
    for amount in AMOUNTS:
        path = out / f"loss_{amount}.png"
        figures.plot_curves(results.curves, amount, path)
        pictures[f"Training loss over {figures.LABELS[amount]}"] = path
    if results.scores:
        figures.plot_scores(results, out / "scores.png")
        pictures["Held-out scores against cost"] = out / "scores.png"
    evaluation = about["evaluation"]
    answers = side_by_side(runs, evaluation["data"], evaluation["limit"])
    page.write_page(
        results,
        out / "report.html",
        about=about,
        pictures=pictures,
        answers=answers,
        released=at_full_size,
    )
    (out / "results.json").write_text(as_json(results, about), "utf-8")
    tables.write_runs(results, out / "runs.csv")
    tables.write_arms(results, out / "arms.csv")
    tables.write_curves(results.curves, out / "curves.csv")
    return results


def _released(path: str) -> dict[str, dict[str, Any]]:
    if not path:
        return {}
    try:
        found = json.loads(Path(path).read_text("utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"--released={path}: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
        raise ValueError(f"--released={path}: expected {{arm: {{figure: value}}}}")
    return found
