"""The recipe on one page: `report.html`, which needs nothing beside itself, and its pictures."""

import base64
import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from qwenvl_jax.train.metrics import read_metrics
from qwenvl_jax.train.plots import smooth

LANGUAGES = ("en", "zh")


class Aim(NamedTuple):
    """A figure that the recipe is to reach, in the model that a stage leaves."""

    what: str
    stage: str
    task: str
    metric: str
    least: dict[str, float]


def _both(least: float) -> dict[str, float]:
    return dict.fromkeys(LANGUAGES, least)


AIMS = (
    Aim("captions: object kinds named", "stage2", "caption", "kinds_named", _both(0.9)),
    Aim("counting and relation questions: exact", "stage2", "vqa", "exact_match", _both(0.8)),
    Aim("grounding: boxes at IoU 0.5", "stage2", "grounding", "places_found", _both(0.8)),
    Aim("referring: boxes at IoU 0.5", "stage2", "referring", "iou_0.5", _both(0.8)),
    Aim("OCR: words (en), characters (zh)", "stage2", "ocr", "text_found", {"en": 0.8, "zh": 0.7}),
    Aim("chat: answers in the format", "stage3", "chat", "format_kept", _both(0.99)),
)
FORGOTTEN = 1.05  # text loss of stage 3 over that of stage 0, at most

Table = Sequence[Sequence[str]]  # the first row is the head


def write(workdir: Path, results: dict[str, Any]) -> Path:
    """Write `curves.png` and `report.html` into the work directory; returns the page."""
    stages = list(results["scores"])
    _curves([workdir / stage for stage in stages], workdir / "curves.png")
    sheets = sorted((workdir / stages[-1] / "answers").glob("*.png"))
    parts = [
        "<h1>Qwen-VL from nothing, on embedded scenes</h1>",
        "<p>Four stages of one small model. Every score is of held-out scenes; <i>blind</i> is the"
        " same model asked with the pictures shuffled.</p>",
        "<h2>What was to be reached</h2>",
        _table(aims(results["scores"])),
        "<h2>Losses</h2>",
        _picture(workdir / "curves.png"),
        "<h2>Every score</h2>",
        _table(every_score(results["scores"])),
        "<h2>Time</h2>",
        _table(times(results["seconds"], results["cpu_seconds"])),
        "<h2>The export, compared with the checkpoint</h2>",
        _table([("what", "found"), *((c["what"], str(c["found"])) for c in results["export"])]),
        f"<h2>Answers after {stages[-1]}</h2>",
        "<p>Grey: the question and the true answer. Black: the model's, its boxes drawn.</p>",
        *(f"<h3>{html.escape(sheet.stem)}</h3>{_picture(sheet)}" for sheet in sheets),
    ]
    page = workdir / "report.html"
    page.write_text(_PAGE.format(body="\n".join(parts)), "utf-8")
    return page


def text(results: dict[str, Any]) -> str:
    """The figures to be reached as a Markdown table."""
    head, *rows = aims(results["scores"])
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def aims(scores: dict[str, list[dict[str, Any]]]) -> Table:
    """A row a figure: what it is, its aim, and what each language reached, blind beside it."""
    rows = [["figure", "after", "aim en / zh", "en", "en blind", "zh", "zh blind"]]
    for aim in AIMS:
        wanted = " / ".join(f"{aim.least[language]:.2f}" for language in LANGUAGES)
        row = [aim.what, aim.stage, wanted]
        for language in LANGUAGES:
            score = _find(scores[aim.stage], aim.task, aim.metric, language)
            row += [_number(score["value"]), _number(score["blind"])]
        rows.append(row)
    row = ["text: loss of stage 3 over that of stage 0", "stage3", f"at most {FORGOTTEN}"]
    for language in LANGUAGES:
        first, last = (
            math.log(_find(scores[stage], "text", "perplexity", language)["value"])
            for stage in ("stage0", "stage3")
        )
        row += [_number(last / first), "-"]
    return [*rows, row]


def _find(scores: Iterable[dict[str, Any]], task: str, metric: str, language: str) -> dict:
    key = (task, metric, language)
    return next(s for s in scores if (s["task"], s["metric"], s["language"]) == key)


def every_score(scores: dict[str, list[dict[str, Any]]]) -> Table:
    """A row for each task, metric and language; a column for each stage, blind in brackets."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for stage, found in scores.items():
        for s in found:
            key = (s["task"], s["language"], s["metric"])
            blind = "" if s["blind"] is None else f" ({_number(s['blind'])})"
            rows.setdefault(key, {})[stage] = _number(s["value"]) + blind
    head = ["task", "language", "metric", *scores]
    return [head, *([*key, *(row.get(stage, "") for stage in scores)] for key, row in rows.items())]


def times(wall: dict[str, float], cpu: dict[str, float]) -> Table:
    """A row a part: what the clock said, and seconds of a processor."""
    rows = [(name, f"{wall[name]:,.0f}", f"{cpu[name]:,.0f}") for name in wall]
    total = ("in all", *(f"{sum(seconds.values()):,.0f}" for seconds in (wall, cpu)))
    return [("part", "seconds", "processor seconds"), *rows, total]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _curves(workdirs: Sequence[Path], out: Path) -> None:
    """Losses of all stages side by side on one scale: training by language, held-out as dots."""
    figure, axes = plt.subplots(
        1, len(workdirs), figsize=(4 * len(workdirs), 4), sharey=True, layout="constrained"
    )
    for axis, workdir in zip(axes, workdirs, strict=True):
        lines = read_metrics(workdir / "metrics.jsonl")
        for colour, language in zip(plt.cm.tab10.colors, LANGUAGES, strict=False):
            for name, style in ((f"loss/{language}", "-"), (f"heldout/{language}", "o--")):
                points = np.array([(m["step"], m[name]) for m in lines if name in m])
                if len(points):
                    y = smooth(points[:, 1]) if style == "-" else points[:, 1]
                    axis.plot(points[:, 0], y, style, color=colour, label=name)
        axis.set(title=workdir.name, xlabel="step")
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="loss, nats a labelled token")
    axes[0].legend(fontsize=8)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def _table(rows: Table) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)

    head, *body = rows
    lines = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in body)
    return f"<table><tr>{cells(head, 'th')}</tr>\n{lines}</table>"


def _picture(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(path.stem)}" src="data:image/png;base64,{data}">'


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Recipe</title><style>
body {{ font: 15px/1.5 sans-serif; max-width: 1300px; margin: 2em auto; padding: 0 1em }}
table {{ border-collapse: collapse }}
td, th {{ border-bottom: 1px solid #ddd; padding: 0.2em 0.8em; text-align: left }}
img {{ max-width: 100% }}
</style></head><body>
{body}
</body></html>
"""
