"""A sweep starts only if all of it can run; if these break, it stops in the night at arm five."""

import json

import pytest

from configs import stage1, stored
from data_pipelines.build.scenes import SceneConfig, build_scenes
from launch.sweep import sweep
from launch.sweeps import grid, sweep_file
from launch.sweeps.grid import Arm
from launch.sweeps.mistakes import Mistakes
from launch.sweeps.plan import plan
from launch.sweeps.runner import Evaluation


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    sizes = SceneConfig(scenes=16, eval_scenes=8, text_scenes=400, shards=1, processes=1)
    build_scenes(sizes, folder)
    return stage1.get_config(f"demo,data={folder}")


def arm(name="a", /, **overrides):
    return Arm(name, {key.replace("__", "."): value for key, value in overrides.items()})


def test_runs_are_the_page_with_one_arms_fields(page, tmp_path):
    """Anything else that differs between arms would be compared along with the arm."""
    few, many = arm("few", model__adapter__num_queries=4), arm("many")
    runs = plan(page, [few, many], seeds=2, workdir=tmp_path)
    assert [run.name for run in runs] == ["few/seed0", "many/seed0", "few/seed1", "many/seed1"]
    want = json.loads(page.to_json())
    assert runs[1].config == want
    want["model"]["adapter"]["num_queries"] = 4
    want["seed"] = want["data"]["seed"] = 1
    assert runs[2].config == want
    assert runs[2].folder == tmp_path / "few" / "seed1"


def test_every_mistake_is_in_one_list(page, tmp_path):
    """One at a time would take as many starts as there are mistakes."""
    arms = [
        arm("typo", optim__stepz=3),
        arm("square", model__adapter__num_queries=15, optim__peak_lr="fast"),
        arm("row", model__adapter__num_queries=256),
        arm("group", modell__width=3),
        arm("twin", model__vit__heads=2),
        arm("twin", model__vit__heads=4),
        arm("same", model__vit__heads=4),
        arm("seed", data__seed=3),
        arm("../up", model__vit__layers=3),
    ]
    with pytest.raises(ValueError) as caught:
        plan(page, arms, seeds=1, workdir=tmp_path / "out")
    text = str(caught.value)
    for words in (
        "typo: config.optim.stepz is not known",
        "square: config.model.adapter.num_queries=15 is no square",
        "square: config.optim.peak_lr must be float",
        "row: config.data.seq_len=256 has no room for one image",
        "group: config.modell.width is not known",
        "2 arms are called twin",
        "same: the same config as twin",
        "seed: config.data.seed is given by --seeds",
        "an arm called '../up'",
    ):
        assert words in text, words
    assert not (tmp_path / "out").exists()


def test_a_mistake_of_the_page_is_told_once(page, tmp_path):
    broken = page.copy_and_resolve_references()
    broken.data.sources.scenes_en.path = str(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="a, b: .*nowhere") as caught:
        plan(broken, [arm("a"), arm("b", model__vit__heads=2)], seeds=1, workdir=tmp_path)
    assert str(caught.value).count("nowhere") == 1


def test_starting_weights_must_fit_every_arm(page, tmp_path):
    """Found at the first run of that arm it would be hours late."""
    (tmp_path / "config.json").write_text(page.to_json())
    start = {"init__checkpoint": str(tmp_path), "init__take": ".*"}
    fewer = arm("fewer", model__adapter__num_queries=4, **start)
    with pytest.raises(ValueError, match="fewer: .* has 16 queries .*num_queries=4.*interpolate"):
        plan(page, [fewer], seeds=1, workdir=tmp_path / "out")
    resized = arm("fewer", init__resize_queries="interpolate", **fewer.overrides)
    assert plan(page, [resized], seeds=1, workdir=tmp_path / "out")
    other = arm("other", **start, model__adapter__kind="pooling")
    with pytest.raises(
        ValueError, match="other: .*parameters do not fit\n.*unexpected adapter/attn"
    ):
        plan(page, [other], seeds=1, workdir=tmp_path / "out")
    gone = arm("gone", init__checkpoint=str(tmp_path / "gone"))
    with pytest.raises(ValueError, match="gone is no work directory"):
        plan(page, [gone], seeds=1, workdir=tmp_path / "out")


def test_a_folder_belongs_to_one_sweep(page, tmp_path):
    """Runs of two sweeps in one folder would be reported as one."""
    arms = [arm("a"), arm("b", model__vit__heads=2)]
    runs = plan(page, arms, seeds=1, workdir=tmp_path)
    scored = {"data": ["x"], "limit": 3}
    sweep_file.check(tmp_path / "new", arms, seeds=1, evaluation=scored)
    sweep_file.claim(tmp_path, runs, arms, evaluation=scored)
    before = sweep_file.read(tmp_path)
    sweep_file.check(tmp_path, arms, seeds=1, evaluation=scored)
    sweep_file.claim(tmp_path, runs, arms, evaluation=scored)
    assert sweep_file.read(tmp_path) == before
    with pytest.raises(ValueError, match="holds another sweep: its evaluation"):
        sweep_file.check(tmp_path, arms, seeds=1, evaluation=scored | {"limit": 4})
    with pytest.raises(ValueError, match="holds another sweep: its runs are a/seed0, b/seed0"):
        sweep_file.check(tmp_path, arms[:1], seeds=1, evaluation=scored)
    longer = page.copy_and_resolve_references()
    longer.optim.steps = 7000
    other = plan(longer, arms, seeds=1, workdir=tmp_path)
    with pytest.raises(ValueError, match="same names but other configs"):
        sweep_file.claim(tmp_path, other, arms, evaluation=scored)
    (tmp_path / "sweep.json").unlink()
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="is not empty and holds no sweep.json"):
        sweep_file.check(tmp_path, arms, seeds=1, evaluation=scored)


def test_a_stored_config_is_a_page(page, tmp_path):
    """What runs are started with; a value that changed its type on the way would be refused."""
    path = tmp_path / "config.json"
    path.write_text(page.to_json())
    assert stored.get_config(str(path)).to_dict() == json.loads(page.to_json())
    with pytest.raises(ValueError, match="nothing.json: there is no such file"):
        stored.get_config(str(tmp_path / "nothing.json"))


def test_every_mistake_of_a_command_is_in_one_list(page, tmp_path, monkeypatch):
    """Flags, arms, folders, plans, the scheduler and the work directory are checked together."""
    monkeypatch.setenv("PATH", str(tmp_path))
    workdir = tmp_path / "work"
    workdir.mkdir()
    (workdir / "thesis.tex").touch()
    mistakes = Mistakes()
    assert mistakes.of(grid.grid, "optim.steps") is None
    with pytest.raises(ValueError) as caught:
        sweep(
            page,
            [arm("typo", optim__stepz=3)],
            workdir,
            seeds=1,
            evaluation=Evaluation((str(tmp_path / "nowhere"),), 1, 1),
            where="slurm",
            released=str(tmp_path / "no_plans"),
            mistakes=mistakes,
        )
    lines = str(caught.value).splitlines()
    assert lines[0] == "nothing was started:" and len(lines) == 7
    for words in (
        "--grid: 'optim.steps' is not FIELD=VALUE",
        "typo: config.optim.stepz is not known",
        "nowhere",
        "--submit=slurm: there is no sbatch",
        "--released=",
        "work is not empty and holds no sweep.json",
    ):
        assert sum(words in line for line in lines) == 1, words
    assert [path.name for path in workdir.iterdir()] == ["thesis.tex"]
