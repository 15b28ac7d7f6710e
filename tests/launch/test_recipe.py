"""If these break, the recipe's stages no longer hand on to each other, or its page says what no
model answered.
"""

import functools
import json
import re

import pytest
from PIL import Image

from configs import common
from data_pipelines.build.scenes import SceneConfig
from launch import recipe, recipe_report

SCENES = SceneConfig(
    scenes=24, eval_scenes=4, text_scenes=600, task_scenes=24, kinds=12, vocab_size=700, shards=1,
    processes=1,
)  # fmt: skip


def use_tiny(use_scenes, config, folder, weights, *, size):
    """The demo variants, of a model that compiles in seconds, on the eight devices of the tests."""
    use_scenes(config, folder, weights, size=size)
    config.model.vit.update(dict(width=16, layers=1, heads=2, mlp_width=16))
    config.model.adapter.heads = 2
    config.model.decoder.update(dict(width=32, layers=1, heads=2, mlp_width=32))
    config.mesh.update(dict(data=4, fsdp=1, tensor=2))  # stage 0 has four rows
    config.data.num_workers = 0


def test_stages_hand_on(tmp_path, monkeypatch):
    """The first stage and the last, one source each: all would take minutes."""
    asked = {"stage0": "text", "stage3": "chat"}
    monkeypatch.setattr(recipe, "LANGUAGES", ("en",))
    monkeypatch.setattr(common, "use_scenes", functools.partial(use_tiny, common.use_scenes))
    stages = {name: (*recipe.STAGES[name][:2], (source,)) for name, source in asked.items()}
    monkeypatch.setattr(recipe, "STAGES", stages)
    config = recipe.RecipeConfig(SCENES, records=4, steps=0.001)
    results = recipe.run(tmp_path, config)
    found = {stage: {s["task"] for s in results["scores"][stage]} for stage in asked}
    assert found == {stage: {task} for stage, task in asked.items()}
    run_config = json.loads((tmp_path / "stage3" / "config.json").read_text())
    assert run_config["init"]["checkpoint"] == str(tmp_path / "stage0")
    assert all(check["ok"] for check in results["export"])
    # Started again, nothing is trained or asked a second time.
    logs = {p: p.read_bytes() for p in tmp_path.glob("stage*/*.jsonl")}
    assert recipe.run(tmp_path, config)["scores"] == results["scores"]
    assert {p: p.read_bytes() for p in tmp_path.glob("stage*/*.jsonl")} == logs
    with pytest.raises(ValueError, match="is of a recipe with"):
        recipe.run(tmp_path, recipe.RecipeConfig(SCENES, records=5, steps=0.001))


def score(task, metric, value, *, language, blind=None):
    return dict(task=task, metric=metric, value=value, language=language, blind=blind)


def made_up():
    """Scores that differ by stage, language and figure."""
    scores = {stage: [] for stage in recipe.STAGES}
    for place, language in enumerate(recipe.LANGUAGES):
        for number, aim in enumerate(recipe_report.AIMS):
            for stage in scores:
                value = 0.1 * number + 0.01 * place + (0.005 if stage == aim.stage else 0)
                scores[stage].append(
                    score(aim.task, aim.metric, value, language=language, blind=0.001 * number)
                )
        for stage, perplexity in (("stage0", 4.0), ("stage3", 4.0 * 4**place)):
            scores[stage].append(score("text", "perplexity", perplexity, language=language))
    return scores


def test_aims_are_read_from_the_stage_they_belong_to():
    """A figure of another stage or language in a cell would be believed."""
    head, *rows = recipe_report.aims(made_up())
    for number, row in enumerate(rows[:-1]):
        assert row[3:] == [
            f"{0.1 * number + 0.005:.3f}", f"{0.001 * number:.3f}",
            f"{0.1 * number + 0.015:.3f}", f"{0.001 * number:.3f}",
        ]  # fmt: skip
    assert rows[-1][3:] == ["1.000", "-", "2.000", "-"]
    assert all(len(row) == len(head) for row in rows)


def test_the_page_needs_nothing_beside_itself(tmp_path):
    """Sent to somebody else, it would show holes."""
    for stage in recipe.STAGES:
        (tmp_path / stage / "answers").mkdir(parents=True)
        lines = [{"step": 0, "loss/en": 2.0, "loss/zh": 3.0}, {"step": 1, "heldout/en": 1.0}]
        log = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / stage / "metrics.jsonl").write_text(log)
    Image.new("RGB", (8, 8)).save(tmp_path / "stage3" / "answers" / "vqa_en.png")
    checks = [{"what": "names <all>", "found": "12 & 3", "ok": True}]
    spent = {"seconds": {"data": 1.0}, "cpu_seconds": {"data": 2.0}}
    results = {"scores": made_up(), **spent, "export": checks}
    page = recipe_report.write(tmp_path, results).read_text("utf-8")
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert len(sources) == 2 and all(s.startswith("data:image/png;base64,") for s in sources)
    assert "names &lt;all&gt;" in page and "12 &amp; 3" in page
    assert "(0.001)" in page  # the blind score stands beside the model's
