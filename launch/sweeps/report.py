"""WORKDIR/report: report.html, its pictures, results.json and CSV tables, of what is finished."""

from collections.abc import Sequence
from pathlib import Path

from launch.sweeps import figures, page, sweep_file, tables
from launch.sweeps.answers import side_by_side
from launch.sweeps.curves import AMOUNTS
from launch.sweeps.plan import Run
from launch.sweeps.released import Released
from launch.sweeps.results import Results, as_json, collect


def write_report(runs: Sequence[Run], workdir: Path, *, released: Released) -> Results:
    """Report the finished runs of a sweep.

    Args:
      released: what arms cost at the released size; may be empty.

    Raises:
      ValueError: no run is finished.
    """
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
        released=released,
    )
    (out / "results.json").write_text(as_json(results, about, released), "utf-8")
    tables.write_runs(results, out / "runs.csv")
    tables.write_arms(results, out / "arms.csv")
    tables.write_curves(results.curves, out / "curves.csv")
    return results
