"""report.html: one file that needs no network and no other file."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.sweeps.answers import Row
from launch.sweeps.compare import LEVEL, statement
from launch.sweeps.costs import COLUMNS
from launch.sweeps.released import Released
from launch.sweeps.results import Results
from launch.sweeps.tables import cell, number

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto }
th, td { border: 1px solid #ccc; padding: .3em .6em; text-align: left; vertical-align: top }
th { background: #f3f3f3 } table.sortable th { cursor: pointer }
img { max-width: 100% } td img { image-rendering: pixelated }
pre { background: #f3f3f3; padding: .6em; overflow-x: auto }
"""
# A click on a head sorts by that column; a second one turns the order round.
_SCRIPT = """
for (const head of document.querySelectorAll('table.sortable th')) {
  head.addEventListener('click', () => {
    const body = head.closest('table').tBodies[0], column = head.cellIndex;
    const up = head.dataset.up = head.dataset.up === '1' ? '0' : '1';
    const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const order = (a, b) => (value(a) - value(b)) || value(a).localeCompare(value(b));
    [...body.rows].sort((a, b) => up === '1' ? order(a, b) : order(b, a))
      .forEach(row => body.append(row));
  });
}
"""


def write_page(
    results: Results,
    out: Path,
    *,
    about: Mapping[str, Any],
    pictures: Mapping[str, Path],
    answers: Mapping[str, Sequence[Row]],
    released: Released,
) -> None:
    """
    Args:
      about: `sweep.json`.
      pictures: title -> PNG.
      answers: title -> records with every arm's answer.
      released: what arms cost at the released size; may be empty.
    """
    parts = ["<h1>Sweep</h1>", _summary(results, about), "<h2>Arms</h2>", _arms(results)]
    if released.costs:
        parts += ["<h2>Cost at the released size</h2>", _released(released)]
    parts += ["<h2>Which arms differ</h2>", _statements(results)]
    for title, path in pictures.items():
        data = base64.b64encode(path.read_bytes()).decode()
        parts.append(f"<h2>{_text(title)}</h2><img src='data:image/png;base64,{data}'>")
    for title, rows in answers.items():
        parts += [f"<h2>Answers: {_text(title)}</h2>", _answers(results.arms, rows)]
    parts += ["<h2>Overrides and code</h2>", _settings(about)]
    body = "\n".join(parts)
    out.write_text(
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Sweep</title>"
        f"<style>{_STYLE}</style><body>{body}<script>{_SCRIPT}</script></body></html>",
        "utf-8",
    )


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _summary(results: Results, about: Mapping[str, Any]) -> str:
    done = len(results.by_run)
    words = [f"{done} of {len(about['runs'])} runs are finished."]
    if results.missing:
        words.append(f"Missing: {', '.join(results.missing)}.")
    words.append(
        f"± is half a {LEVEL:.0%} interval of the mean over seeds. It holds what changes with the"
        " seed (weights at random, order of the data), not which records were scored. Bands of the"
        " curves are the same. Arms are compared within seeds, which share their data, so two may"
        " differ although their intervals overlap."
    )
    return f"<p>{_text(' '.join(words))}</p>"


def _arms(results: Results) -> str:
    figures = results.figures() | {COLUMNS[n]: c for n, c in results.costs.items()}
    rows = []
    for arm in results.arms:
        cells = [(arm, arm)]
        cells += [(cell(found, arm), found.mean.get(arm, "")) for found in figures.values()]
        rows.append(cells)
    return "<p>A click on a head sorts.</p>" + _sortable(["arm", *figures], rows)


def _released(released: Released) -> str:
    columns = list(next(iter(released.costs.values())))
    rows = [
        [(arm, arm), *((number(costs[name]), costs[name]) for name in columns)]
        for arm, costs in released.costs.items()
    ]
    words = f"Compiled for {released.topology} by launch/compile.py, not run."
    return f"<p>{_text(words)}</p>" + _sortable(["arm", *columns], rows)


def _sortable(heads: Sequence[str], rows: Sequence[Sequence[tuple[str, Any]]]) -> str:
    """A table of (what is shown, what it is sorted by)."""
    head = "".join(f"<th>{_text(name)}</th>" for name in heads)
    body = "".join(
        "<tr>"
        + "".join(f"<td data-value='{_text(key)}'>{_text(shown)}</td>" for shown, key in cells)
        + "</tr>"
        for cells in rows
    )
    return f"<table class='sortable'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _statements(results: Results) -> str:
    lines = "".join(
        f"<li>{_text(name)}: {_text(statement(found))}</li>"
        for name, found in results.figures().items()
    )
    return f"<ul>{lines}</ul>"


def _answers(arms: Sequence[str], rows: Sequence[Row]) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in ["picture", "true", *arms])
    body = []
    for row in rows:
        picture = f"<img src='{row.picture}'>" if row.picture else ""
        said = "".join(f"<td>{_text(row.answers.get(arm, '-'))}</td>" for arm in arms)
        body.append(f"<tr><td>{picture}</td><td>{_text(row.true)}</td>{said}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _settings(about: Mapping[str, Any]) -> str:
    states = [
        f"commit {state['commit']}, {len(state['changed'])} files changed since"
        if state
        else "outside a git clone"
        for state in about["git"]
    ]
    plain = {"arms": about["arms"], "scored on": about["evaluation"], "code": states}
    return f"<pre>{_text(json.dumps(plain, indent=1, ensure_ascii=False))}</pre>"
