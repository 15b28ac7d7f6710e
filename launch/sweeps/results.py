"""Everything a sweep found, as plain data: what report.html shows and results.json keeps."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from launch.sweeps.compare import Comparison, compare, statement
from launch.sweeps.costs import costs
from launch.sweeps.curves import AMOUNTS, Amount, Curve, at_equal, read_curve
from launch.sweeps.plan import Run
from launch.sweeps.progress import DONE
from launch.sweeps.released import Released

LOWER_IS_BETTER = ("perplexity",)


class Results(NamedTuple):
    """Of the runs that are finished."""

    arms: list[str]
    curves: list[Curve]
    losses: dict[str, Comparison]  # by amount: training loss at equal samples, FLOPs, seconds
    scores: dict[str, Comparison]  # by `source metric`: held-out scores
    costs: dict[str, Comparison]  # by column
    by_run: dict[str, dict[str, float]]  # run -> every figure of it
    missing: list[str]  # runs that are not finished

    def figures(self) -> dict[str, Comparison]:
        """All of them by name, losses first."""
        return _named(self.losses) | self.scores


def _named(losses: Mapping[Amount, Any]) -> dict[str, Any]:
    return {f"loss at equal {name}": found for name, found in losses.items()}


def collect(runs: Sequence[Run]) -> Results:
    """Read what the runs wrote.

    Raises:
      ValueError: no run is finished.
    """
    done = [run for run in runs if (run.folder / DONE).is_file()]
    if not done:
        raise ValueError("no run is finished: there is nothing to report")
    arms = list(dict.fromkeys(run.arm for run in done))
    curves = [read_curve(run) for run in done]
    scores, spent = {}, {}
    for run in done:
        for name, value in read_scores(run.folder).items():
            scores.setdefault(name, {}).setdefault(run.arm, {})[run.seed] = value
        for name, value in costs(run).items():
            spent.setdefault(name, {}).setdefault(run.arm, {})[run.seed] = value
    losses = {amount: at_equal(curves, amount) for amount in AMOUNTS}
    by_run = {
        run.name: {
            name: values[run.arm][run.seed]
            for name, values in {**_named(losses), **scores, **spent}.items()
            if run.seed in values.get(run.arm, {})
        }
        for run in done
    }
    return Results(
        arms,
        curves,
        *({name: compare(values) for name, values in of.items()} for of in (losses, scores, spent)),
        by_run,
        [run.name for run in runs if run not in done],
    )


def read_scores(folder: Path) -> dict[str, float]:
    """{`source metric`: value} of a run's `scores.jsonl`; a run without evaluation has none."""
    path = folder / "scores.jsonl"
    if not path.is_file():
        return {}
    found = {}
    for line in path.read_text("utf-8").splitlines():
        score = json.loads(line)
        source = f"{Path(score['data']).name} {score['task']} {score['language']}"
        found[f"{source} {score['metric']}"] = score["value"]
    return found


def as_json(results: Results, about: dict[str, Any], released: Released) -> str:
    """`results.json`: what was run, each run's figures, means with intervals, and what they say."""
    figures = {
        name: comparison._asdict() | {"statement": statement(comparison)}
        for name, comparison in results.figures().items()
    }
    plain = {"sweep": about, "missing": results.missing, "figures": figures}
    plain["costs"] = {name: found.mean for name, found in results.costs.items()}
    plain["released"] = released._asdict()
    plain["runs"] = results.by_run
    return json.dumps(plain, indent=1, ensure_ascii=False)
