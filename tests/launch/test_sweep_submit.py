"""Trainings as jobs of schedulers, run against recorders in the schedulers' place."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from launch.sweeps import runner, submit
from launch.sweeps.plan import Run
from launch.sweeps.progress import standing

NOTHING = runner.Evaluation((), 1, 1)
POD = dict(NAME="q", ZONE="z", TYPE="v5litepod-256", REPOSITORY="https://h/r.git", POLL="0")


@pytest.fixture
def recorder(tmp_path, monkeypatch):
    """Put a program on the path that notes its arguments, then does what bash says."""

    def put(program: str, answers: str) -> Path:
        fake, log = tmp_path / "bin" / program, tmp_path / f"{program}.log"
        fake.parent.mkdir(exist_ok=True)
        text = f'#!/bin/bash\nprintf "%s\\n" "$PWD $*" >> {log}\ncd {tmp_path}\n{answers}\n'
        fake.write_text(text)
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
        return log

    return put


def go(tmp_path, where, **options):
    runs = [Run(arm, 0, tmp_path / "w" / arm, {"optim": {"steps": 2}}) for arm in ("Few_4", "b")]
    (tmp_path / "w").mkdir(exist_ok=True)
    asked = dict(evaluation=NOTHING, parallel=2, retry_failed=False) | options
    return runs, runner.run_all(runs, tmp_path / "w", where=where, **asked)


def test_slurm_waits_for_each_job(recorder, tmp_path):
    """Started again after a kill, a job of the same name must not run beside the one that is left.

    Both jobs are one command each; what one prints and how it ends is kept as for a local run.
    """
    answers = '[[ $* != */b/* ]] || { echo "sbatch: error: invalid partition" >&2; exit 1; }'
    log = recorder("sbatch", answers)
    runs, unfinished = go(tmp_path, "slurm")
    assert unfinished == 1 and standing(runs[0]).state == "finished"
    assert standing(runs[1]).error == "sbatch: error: invalid partition"
    line = next(line for line in log.read_text().splitlines() if "Few_4" in line)
    folder, *words = line.split()
    assert Path(folder) == runner.ROOT  # where train.sbatch looks for .venv
    script = words.index(str(submit.SBATCH))
    assert words[script + 1 :] == [
        f"--config=configs/stored.py:{tmp_path}/w/Few_4/config.json",
        f"--workdir={tmp_path}/w/Few_4",
    ]
    assert {"--wait", "--dependency=singleton"} <= set(words[:script])
    assert f"--output={tmp_path}/w/Few_4/log.txt" in words[:script]
    assert (tmp_path / "w/Few_4/config.json").is_file()  # written before it is submitted
    go(tmp_path, "slurm")
    assert len(log.read_text().splitlines()) == 2  # neither again
    go(tmp_path, "slurm", retry_failed=True)
    again = log.read_text().splitlines()[2:]
    assert len(again) == 1 and submit.name_of(runs[1]) in again[0]


def test_a_jobset_is_waited_for(recorder, tmp_path, monkeypatch):
    """One that failed at an earlier start is made anew; a status that cannot be had is no end."""
    template = tmp_path / "jobset.yaml"
    text = submit.JOBSET.read_text().replace("REGION-docker.pkg.dev/PROJECT", "eu.host/p")
    template.write_text(text)
    monkeypatch.setattr(submit, "JOBSET", template)
    monkeypatch.setenv("POLL", "0")
    answers = """
    case "$*" in
      apply*) touch applied ;;
      get*)
        [ -e applied ] || { echo Failed; exit; }
        [ -e asked ] || { touch asked; echo "no route to host" >&2; exit 1; }
        [ -e twice ] || { touch twice; exit; }
        echo "StartupPolicyCompleted Completed" ;;
    esac"""
    log = recorder("kubectl", answers)
    submit.check("gke")
    runs, unfinished = go(tmp_path, "gke", parallel=1)
    assert unfinished == 0
    verbs = [line.split()[1] for line in log.read_text().splitlines()]
    assert verbs[:3] == ["get", "delete", "apply"] and set(verbs[3:6]) == {"get"}
    made = yaml.safe_load((runs[0].folder / "jobset.yaml").read_text())
    assert made["metadata"]["name"] == submit.name_of(runs[0])
    want = yaml.safe_load(text)
    for document in (made, want):
        document["metadata"].pop("name")
        group = document["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
        args = group["containers"][0].pop("args")
        assert args[0] == "--multihost"
        assert [arg.split("=")[0] for arg in args[1:]] == ["--config", "--workdir"]
    assert made == want  # nothing else of the edited manifest is lost


def test_a_failed_jobset_is_a_failed_run(recorder, tmp_path):
    manifest = tmp_path / "jobset.yaml"
    manifest.touch()
    recorder("kubectl", 'case "$*" in get*) [ -e a ] && echo Failed ;; apply*) touch a ;; esac')
    done = subprocess.run([submit.KEEP, manifest], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "has failed" in done.stderr


@pytest.mark.parametrize("fails", [False, True])
def test_a_pod_is_given_back_however_its_run_ends(recorder, tmp_path, monkeypatch, fails):
    """A pod that is forgotten costs as much as one that works."""
    for name, value in POD.items():
        monkeypatch.setenv(name, value)
    answers = f"""
    case "$*" in
      *describe*) cat "state-$5" 2>/dev/null || exit 1 ;;
      *" create "*) echo ACTIVE > "state-$5" ;;
      *launch/run.py*) exit {int(fails)} ;;
    esac"""
    log = recorder("gcloud", answers)
    submit.check("tpu")
    runs, unfinished = go(tmp_path, "tpu", parallel=1)
    assert unfinished == 2 * fails
    lines = log.read_text().splitlines()
    for run in runs:
        name = f"q-{submit.name_of(run)}"
        mine = [line for line in lines if f" {name} " in f"{line} "]
        assert " create " in mine[0] or " describe " in mine[0]
        assert any(f"--workdir={run.folder}" in line for line in mine)
        assert " delete " in mine[-1]


def test_what_a_submission_needs(tmp_path, monkeypatch):
    """Told before anything starts, all at once."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in POD:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ZONE", "z")
    submit.check("here")
    with pytest.raises(ValueError, match="no sbatch on this machine"):
        submit.check("slurm")
    with pytest.raises(ValueError, match="no gcloud.*\n.*NAME.*\n.*TYPE.*\n.*REPOSITORY"):
        submit.check("tpu")
    with pytest.raises(ValueError, match="no kubectl.*\n.*its image is an example"):
        submit.check("gke")


def test_names_are_short_unique_and_stay(tmp_path):
    """Kubernetes and Google Cloud refuse capitals, underscores and more than 63 letters."""
    names = {
        submit.name_of(Run(arm, seed, tmp_path / arm / f"seed{seed}", {}))
        for arm in ("peak_lr-0.001_" * 5 + "a", "peak_lr-0.001_" * 5 + "b")
        for seed in range(3)
    }
    assert len(names) == 6
    assert all(len(name) <= 40 and name.replace("-", "").isalnum() for name in names)
    assert all(name == name.lower() for name in names)
    here = Run("a", 0, Path("runs/a/seed0"), {})
    assert submit.name_of(here) == submit.name_of(here._replace(folder=here.folder.absolute()))
