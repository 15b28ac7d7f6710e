"""What the cluster scripts ask for: run against a recorder in the place of gcloud and srun."""

import math
import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
POD, SBATCH = ROOT / "launch/tpu/pod.sh", ROOT / "launch/slurm/train.sbatch"
ARGS = ["--config=configs/stage1.py", "--workdir=/mnt/my runs/stage1"]
VALUES = dict(NAME="q1", ZONE="z", TYPE="v5litepod-256", REPOSITORY="https://host/r.git", POLL="0")


@pytest.fixture
def recorded(tmp_path):
    """Run a script; `answers` is bash that decides what the recorded program does."""

    def run(script: Path, *args: str, program="gcloud", answers="", **env: str):
        fake, log = tmp_path / "bin" / program, tmp_path / "log"
        fake.parent.mkdir(exist_ok=True)
        fake.write_text(f'#!/bin/bash\nprintf "%s\\n" "$*" >> {log}\ncd {tmp_path}\n{answers}\n')
        fake.chmod(0o755)
        path = f"{fake.parent}:{os.environ['PATH']}"
        done = subprocess.run(
            [script, *args], env={"PATH": path} | env, capture_output=True, text=True, timeout=20
        )
        return done, log.read_text() if log.exists() else ""

    return run


@pytest.mark.parametrize("script", [POD, SBATCH])
def test_bash_reads_it(script):
    subprocess.run(["bash", "-n", script], check=True)


def test_a_preempted_pod_comes_back_and_the_run_goes_on(recorded):
    """Created, preempted in its first run, deleted, created again, run to the end: in this order,
    and every argument whole at the other end of ssh.
    """
    answers = """
    case "$*" in
      *describe*) cat state 2>/dev/null || exit 1 ;;
      *" create "*) echo ACTIVE > state ;;
      *delete*) rm state ;;
      *launch/run.py*) [ -e ran ] || { touch ran; echo SUSPENDED > state; exit 255; } ;;
    esac"""
    done, log = recorded(POD, "keep", *ARGS, answers=answers, SPOT="1", **VALUES)
    assert done.returncode == 0, done.stderr
    words = {" create ": "create", " delete ": "delete", "git clone": "setup", "run.py": "run"}
    order = [word for line in log.splitlines() for key, word in words.items() if key in line]
    assert order == ["create", "setup", "run", "delete", "create", "setup", "run"]
    create = next(line for line in log.splitlines() if " create " in line)
    for part in ("--node-id=q1", "--accelerator-type=v5litepod-256", "--spot", "--zone=z"):
        assert part in create.split()
    assert "--worker=all" in log and r"--workdir=/mnt/my\ runs/stage1" in log


def test_a_run_that_fails_by_itself_is_not_repeated(recorded):
    """A typo in a config must not burn a pod for a night."""
    answers = 'case "$*" in *describe*) echo ACTIVE ;; *launch/run.py*) exit 1 ;; esac'
    done, log = recorded(POD, "keep", *ARGS, answers=answers, **VALUES)
    assert done.returncode == 1 and "still there" in done.stderr
    assert log.count("launch/run.py") == 1


def test_a_run_that_was_asked_to_end_goes_on(recorded):
    """75 says that all is saved: a pod that is still there takes the run up again."""
    answers = """
    case "$*" in
      *describe*) echo ACTIVE ;;
      *launch/run.py*) [ -e ran ] || { touch ran; exit 75; } ;;
    esac"""
    done, log = recorded(POD, "keep", *ARGS, answers=answers, **VALUES)
    assert done.returncode == 0, done.stderr
    assert log.count("launch/run.py") == 2


def test_slurm_queues_a_run_again_that_was_asked_to_end(recorded, tmp_path):
    """Slurm signals before the time is up; without a requeue the job would end there."""
    (tmp_path / "bin").mkdir()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").touch(0o755)
    queue = tmp_path / "bin/scontrol"
    queue.write_text(f'#!/bin/bash\nprintf "%s\\n" "scontrol $*" >> {tmp_path}/log\n')
    queue.chmod(0o755)
    given = dict(program="srun", SLURM_SUBMIT_DIR=str(tmp_path), SLURM_JOB_ID="7")
    done, log = recorded(SBATCH, *ARGS, answers="exit 75", **given)
    assert done.returncode == 0 and "scontrol requeue 7" in log
    (tmp_path / "log").unlink()
    done, log = recorded(SBATCH, *ARGS, answers="exit 2", **given)
    assert done.returncode == 2 and "requeue" not in log


def test_a_pod_that_cannot_be_had_and_a_word_that_is_not_known(recorded):
    done, _ = recorded(POD, "create", answers="[[ $* == *describe* ]] && echo FAILED", **VALUES)
    assert done.returncode != 0
    done, log = recorded(POD, "destroy", **VALUES)
    assert done.returncode == 2 and "pod.sh keep" in done.stderr
    assert "destroy" not in log


def test_the_jobset_has_a_pod_on_every_host():
    """A topology of more hosts than pods waits for ever; a host restarted alone hangs the rest."""
    [document] = yaml.safe_load_all((ROOT / "launch/gke/jobset.yaml").read_text())
    assert (document["apiVersion"], document["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert set(document["spec"]) == {"failurePolicy", "network", "replicatedJobs"}
    exclusive = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    assert document["metadata"]["annotations"] == exclusive
    [group] = document["spec"]["replicatedJobs"]
    assert set(group) == {"name", "replicas", "template"}
    job = group["template"]["spec"]
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    chips = container["resources"]["limits"]["google.com/tpu"]
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    hosts = math.prod(map(int, topology.split("x"))) // chips
    assert job["parallelism"] == job["completions"] == hosts
    assert (job["completionMode"], job["backoffLimit"]) == ("Indexed", 0)
    [rule] = job["podFailurePolicy"]["rules"]
    codes = {"containerName": container["name"], "operator": "In", "values": [1, 2]}
    assert rule == {"action": "FailJob", "onExitCodes": codes}
    assert pod["restartPolicy"] == "Never" and "--multihost" in container["args"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }


def test_slurm_starts_a_process_a_gpu(recorded, tmp_path):
    """JAX's Slurm detection gives each task the GPU of its local number."""
    options = dict(
        line.removeprefix("#SBATCH --").split("=", 1)
        for line in SBATCH.read_text().splitlines()
        if line.startswith("#SBATCH") and "=" in line
    )
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    done, _ = recorded(SBATCH, *ARGS, program="srun", SLURM_SUBMIT_DIR=str(tmp_path))
    assert done.returncode == 1 and "no .venv" in done.stderr
    python.touch(0o755)
    done, log = recorded(SBATCH, *ARGS, program="srun", SLURM_SUBMIT_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert log.split("launch/run.py ")[1].strip() == " ".join(["--multihost", *ARGS])
