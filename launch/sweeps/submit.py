"""A run's training as a job of a scheduler, through the launchers.

Each command lasts as long as its job and ends with its status, so a sweep waits for it as for a
process of its own. Names follow from the run's folder: given again, the command finds the job that
an interrupted sweep left (Slurm: queues behind it; GKE, TPU: goes on with it).
"""

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import yaml

from launch.sweeps.plan import Run

Where = Literal["here", "slurm", "gke", "tpu"]
WHERE: tuple[Where, ...] = get_args(Where)
LAUNCH = Path(__file__).resolve().parents[1]
SBATCH, POD = LAUNCH / "slurm" / "train.sbatch", LAUNCH / "tpu" / "pod.sh"
KEEP, JOBSET = LAUNCH / "gke" / "keep.sh", LAUNCH / "gke" / "jobset.yaml"
PROGRAMS = {"slurm": "sbatch", "gke": "kubectl", "tpu": "gcloud"}
POD_VARIABLES = ("NAME", "ZONE", "TYPE", "REPOSITORY")


class Job(NamedTuple):
    command: list[str]  # to be started in the repository's root
    env: dict[str, str]  # beside what there is


def check(where: Where) -> None:
    """
    Raises:
      ValueError: a list of what a submission needs and does not find.
    """
    errors = []
    program = PROGRAMS.get(where)
    if program and not shutil.which(program):
        errors.append(f"--submit={where}: there is no {program} on this machine")
    if where == "tpu":
        missing = [name for name in POD_VARIABLES if not os.environ.get(name)]
        errors += [f"--submit=tpu: {name} is not in the environment" for name in missing]
    if where == "gke" and "REGION-docker" in JOBSET.read_text("utf-8"):
        errors.append("--submit=gke: edit launch/gke/jobset.yaml, its image is an example")
    if errors:
        raise ValueError("\n".join(errors))


def name_of(run: Run) -> str:
    """What a scheduler calls a run: the same each time, short, letters, digits and dashes."""
    folder = str(run.folder.absolute())
    plain = re.sub(r"[^a-z0-9]+", "-", run.name.lower()).strip("-")[:24].strip("-")
    return f"qwenvl-{plain}-{hashlib.sha256(folder.encode()).hexdigest()[:6]}"


def job(where: Where, run: Run) -> Job:
    """What submits the training of a run and waits for its end. On the other side the run's folder
    has the same path, and the repository's root is the working directory.
    """
    folder = run.folder.absolute()
    args = [f"--config=configs/stored.py:{folder / 'config.json'}", f"--workdir={folder}"]
    if where == "slurm":
        options = [f"--job-name={name_of(run)}", f"--output={folder / 'log.txt'}"]
        # A job that an interrupted sweep left has the same name, and ends first.
        options += ["--wait", "--dependency=singleton"]
        return Job(["sbatch", *options, str(SBATCH), *args], {})
    if where == "tpu":
        return Job([str(POD), "once", *args], {"NAME": f"{os.environ['NAME']}-{name_of(run)}"})
    return Job([str(KEEP), str(_manifest(run, args))], {})


def _manifest(run: Run, args: list[str]) -> Path:
    """launch/gke/jobset.yaml with the run's name and arguments, beside the run."""
    document = yaml.safe_load(JOBSET.read_text("utf-8"))
    document["metadata"]["name"] = name_of(run)
    pod = document["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    pod["containers"][0]["args"] = ["--multihost", *args]
    path = run.folder / "jobset.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
    return path
