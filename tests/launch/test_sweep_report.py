"""The report against figures worked out by hand; a wrong one would be believed."""

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.build.scenes import SceneConfig, build_scenes
from data_pipelines.stream.source import read_records
from launch.sweeps import answers, figures, released, report, sweep_file
from launch.sweeps.curves import AMOUNTS, read_curve
from launch.sweeps.plan import Run

LOSSES = {  # by arm and seed; the same at every step
    "few": {0: 2.0, 1: 2.2, 2: 2.1},
    "<many>": {0: 3.0, 1: 3.2, 2: 3.1},
    "lost": {0: 9.0},
}
SIZES = {"few": 4, "<many>": 8, "lost": 4}  # samples a step
T = 4.302652729911275  # Student's t, 97.5 %, 2 degrees of freedom, of any table


def finished(folder: Path, arm: str, seed: int) -> Run:
    """A run's files, as trainer, evaluation and runner write them."""
    run = Run(
        arm,
        seed,
        folder / arm.strip("<>") / f"seed{seed}",
        {"optim": {"steps": 4}, "model": {"adapter": {"num_queries": SIZES[arm] ** 2}}},
    )
    run.folder.mkdir(parents=True)
    lines = [{"step": 0, "heldout": 9.0}] + [
        {
            "step": step,
            "loss": LOSSES[arm][seed],
            "samples": SIZES[arm],
            "flops": 2e9 * SIZES[arm],
            "seconds": 5.0 if step == 0 else 0.5,
            "padding": 0.25,
        }
        for step in range(4)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run.folder / "metrics.jsonl").write_text(text + '{"step": 4, "lo')
    (run.folder / "memory.json").write_text(json.dumps({"arguments": 2**20, "outputs": 2**21}))
    score = {"data": "x/scenes_en", "task": "caption", "language": "en", "metric": "cider"}
    (run.folder / "scores.jsonl").write_text(json.dumps(score | {"value": 10 + seed}) + "\n")
    if arm != "lost":
        (run.folder / "done.json").write_text("{}")
    return run


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    runs = [finished(folder, arm, seed) for arm in LOSSES for seed in LOSSES[arm]]
    names = [run.name for run in runs]
    about = {"digest": "", "arms": {"<many>": {}}, "runs": names, "git": [{}]}
    about["evaluation"] = {"data": [], "limit": 1, "rows": 1}
    (folder / sweep_file.NAME).write_text(json.dumps(about))
    plans = folder / "plans"
    for arm, seconds in (("few", 5.5), ("<many>", 10.25)):
        (plans / arm).mkdir(parents=True)
        (plans / arm / "plan.json").write_text(json.dumps(plan(seconds)))
    report.write_report(runs, folder, released=released.read_plans(str(plans)))
    return folder / "report"


def plan(seconds: float) -> dict:
    """The keys of a plan.json that a report reads."""
    return {
        "topology": "v5e:2x2",
        "chips": 4,
        "step_seconds": seconds,
        "flops_hardware": 3e12,
        "flops_ideal": 2e12,
        "hbm_bytes": 2**31,
        "images_per_second": 7.0,
        "stage_chip_hours": 11.0,
    }


def test_means_intervals_and_costs(written):
    """Losses do not change within a run, so at any equal amount they are what stands above."""
    found = json.loads((written / "results.json").read_text())
    for amount in AMOUNTS:
        loss = found["figures"][f"loss at equal {amount}"]
        assert loss["mean"] == pytest.approx({"few": 2.1, "<many>": 3.1})
        assert loss["interval"]["few"] == pytest.approx(T * 0.1 / 3**0.5)
        assert loss["statement"].startswith("Every two arms are told apart (95 % over 3 seeds")
    score = found["figures"]["scenes_en caption en cider"]
    assert score["mean"] == {"few": 11.0, "<many>": 11.0}
    assert score["statement"].startswith("No two arms are told apart")
    costs = {name: values["<many>"] for name, values in found["costs"].items()}
    assert costs == {
        "step_seconds": 0.5,  # not the first, which waits for data
        "samples_per_step": 8.0,
        "gflops_per_sample": 2.0,
        "memory_mib": 3.0,
        "tokens_per_image": 66,
        "padding": 0.25,
        "training_seconds": 6.5,
    }
    assert found["missing"] == ["lost/seed0"]
    assert found["released"]["topology"] == "v5e:2x2, 4 chips"
    assert found["released"]["costs"]["few"]["GiB a chip"] == 2.0


def test_tables_say_the_same(written):
    """A spreadsheet and the page that disagree are both worthless."""
    with (written / "arms.csv").open(newline="") as file:
        arms = {row["arm"]: row for row in csv.DictReader(file)}
    assert float(arms["few"]["loss at equal samples"]) == pytest.approx(2.1)
    assert float(arms["few"]["loss at equal samples +-"]) == pytest.approx(T * 0.1 / 3**0.5)
    with (written / "runs.csv").open(newline="") as file:
        runs = {row["run"]: row for row in csv.DictReader(file)}
    assert len(runs) == 6
    assert float(runs["few/seed1"]["loss at equal samples"]) == pytest.approx(2.2)
    with (written / "curves.csv").open(newline="") as file:
        steps = [
            row for row in csv.DictReader(file) if (row["arm"], row["seed"]) == ("<many>", "0")
        ]
    assert [float(row["samples"]) for row in steps] == [8, 16, 24, 32]
    assert [float(row["seconds"]) for row in steps] == [5.0, 5.5, 6.0, 6.5]


class Page(HTMLParser):
    """Cells of sortable tables by (sort key, text), pictures, and tags that were left open."""

    def __init__(self, text: str):
        super().__init__()
        self.tables, self.pictures, self.open, self._key = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag in ("table", "tr", "td", "th", "ul", "pre", "script", "style"):
            self.open.append(tag)
        if tag == "table" and attrs.get("class") == "sortable":
            self.tables.append([])
        if tag == "td":
            self._key = attrs.get("data-value")
        if tag == "img":
            self.pictures.append(attrs["src"])

    def handle_endtag(self, tag):
        if tag in ("table", "tr", "td", "th", "ul", "pre", "script", "style"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["td"] and self._key is not None:
            self.tables[-1].append((self._key, data))


def test_the_page_stands_alone_and_sorts_by_numbers(written):
    """`10` before `9` is how text sorts; a name with a bracket must not become a tag."""
    text = (written / "report.html").read_text()
    page = Page(text)
    assert not page.open and len(page.tables) == 2
    assert ("<many>", "<many>") in page.tables[0]
    seconds = [float(key) for key, shown in page.tables[1] if shown in ("5.500", "10.250")]
    assert sorted(seconds) == [5.5, 10.25]
    assert not re.search(r"(src|href)=['\"](?!data:)", text)
    for source in page.pictures:
        Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).verify()
    assert len(page.pictures) == 4  # three scales of the loss, and the scores
    assert "Missing: lost/seed0." in text


def test_bands_are_drawn_where_they_belong(written, monkeypatch):
    """The mean, and t times the standard error about it, at every point of the axis."""
    drawn = []
    monkeypatch.setattr(figures, "_save", lambda figure, out: drawn.append(figure))
    folder = written.parent
    runs = [Run("few", seed, folder / "few" / f"seed{seed}", {}) for seed in range(3)]
    figures.plot_curves([read_curve(run) for run in runs], "samples", written / "x.png")
    axes = drawn[0].axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 2.1)
    assert tuple(axes.lines[0].get_xdata()[[0, -1]]) == (4.0, 16.0)
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    half = T * 0.1 / 3**0.5
    assert (heights.min(), heights.max()) == pytest.approx((2.1 - half, 2.1 + half))


def test_answers_stand_beside_their_own_picture(tmp_path):
    """Two arms that answered in another order, and one that lacks a record."""
    sizes = SceneConfig(scenes=8, eval_scenes=4, text_scenes=100, shards=1, processes=1)
    build_scenes(sizes, tmp_path / "data")
    records = list(read_records(tmp_path / "data/test/scenes_en", limit=3))
    runs = []
    for arm, keys in (("a", [0, 1]), ("b", [1, 0, 2])):
        run = Run(arm, 1, tmp_path / arm, {})
        (run.folder / "answers").mkdir(parents=True)
        (run.folder / "done.json").write_text("{}")
        lines = [
            {"key": records[k].key, "answer": f"{arm}{k}", "true": f"true{k}", "ended": True}
            for k in keys
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (run.folder / "answers" / "scenes_en_caption_en.jsonl").write_text(text)
        runs.append(run)
    [(name, rows)] = answers.side_by_side(runs, [str(tmp_path / "data/test/scenes_en")], 3).items()
    assert name == "scenes_en_caption_en"
    said = [(row.true, row.answers) for row in rows]
    assert said == [
        ("true0", {"a": "a0", "b": "b0"}),
        ("true1", {"a": "a1", "b": "b1"}),
        ("true2", {"b": "b2"}),
    ]
    assert len({row.picture for row in rows}) == 3  # three scenes, three pictures


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no ARM/plan.json"),
        ({"a": "{}"}, "a/plan.json is no plan of compile.py: KeyError"),
        ({"a": "{"}, "a/plan.json is no plan"),
        ({"a": "[]"}, "a/plan.json is no plan"),
        (
            {"a": json.dumps(plan(1.0)), "b": json.dumps(plan(1.0) | {"chips": 8})},
            "plans for different chips",
        ),
    ],
)
def test_plans_that_cannot_be_reported(tmp_path, files, message):
    for arm, text in files.items():
        (tmp_path / arm).mkdir()
        (tmp_path / arm / "plan.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        released.read_plans(str(tmp_path))


def test_a_plan_has_what_a_report_reads():
    """launch/compile.py writes the fields of this class; a renamed one would be missed here."""
    from launch.plan.report import Plan

    assert set(plan(1.0)) <= set(Plan.__dataclass_fields__)
