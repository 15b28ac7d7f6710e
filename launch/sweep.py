"""Compare settings of a stage over seeds, in one command.

    python launch/sweep.py --config=configs/stage1.py:demo \\
        --grid='model.adapter.num_queries=4,9,16,25' --seeds=3 --workdir=runs/queries

Arms are the product of `--grid` (a field's values after `=`, fields apart by `;`), `--zip` (fields
that move together) and `--arms` (a Python file whose `get_arms` names them). Each run is a process
of its own in WORKDIR/ARM/seedN. The command may be given again at any time: finished runs are kept,
broken ones resumed, failed ones shown, and tried again with `--retry_failed`. Then it writes
WORKDIR/report. With `--submit` trainings are jobs of Slurm, GKE or TPU VMs by launch/slurm,
launch/gke and launch/tpu.
"""

import signal
import sys
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from launch import checks, logs, pages
from launch.sweeps import grid, submit, sweep_file
from launch.sweeps.compare import statement
from launch.sweeps.mistakes import Mistakes
from launch.sweeps.plan import plan
from launch.sweeps.released import read_plans
from launch.sweeps.report import write_report
from launch.sweeps.runner import Evaluation, run_all
from launch.sweeps.tables import markdown
from qwenvl_jax import command_line
from qwenvl_jax.endings import Ending


def sweep(
    base: ConfigDict,
    arms: list[grid.Arm],
    workdir: Path,
    *,
    seeds: int,
    evaluation: Evaluation,
    parallel: int = 1,
    retry_failed: bool = False,
    where: submit.Where = "here",
    released: str = "",
    mistakes: Mistakes | None = None,
) -> int:
    """Run every arm with every seed and report; returns how many runs are not finished.

    Args:
      where: who trains; scores and report are made here.
      released: a folder of plans, ARM/plan.json, of what arms cost at the released size.
      mistakes: what is wrong already.

    Raises:
      ValueError: every mistake there is, before anything is started.
    """
    mistakes = mistakes or Mistakes()
    runs = mistakes.of(plan, base, arms, seeds=seeds, workdir=workdir)
    plans = mistakes.of(read_plans, released)
    mistakes.of(checks.folders, evaluation.data)
    mistakes.of(submit.check, where)
    scored = evaluation._asdict()
    mistakes.of(sweep_file.check, workdir, arms, seeds=seeds, evaluation=scored)
    mistakes.refuse()
    sweep_file.claim(workdir, runs, arms, evaluation=scored)
    unfinished = run_all(
        runs,
        workdir,
        evaluation=evaluation,
        parallel=parallel,
        retry_failed=retry_failed,
        where=where,
    )
    if unfinished < len(runs):
        results = write_report(runs, workdir, released=plans)
        print(markdown(results))
        for name, found in results.figures().items():
            print(f"{name}: {statement(found)}")
        print(f"look at {workdir}/report/report.html")
    return unfinished


def arms_of(values: flags.FlagValues, mistakes: Mistakes) -> list[grid.Arm]:
    """The arms of --grid, --zip and --arms, of those that can be read."""
    axes = [axis for text in values.grid for axis in mistakes.of(grid.grid, text) or []]
    axes += [axis for text in values.zip if (axis := mistakes.of(grid.zipped, text))]
    if values.arms and (axis := mistakes.of(grid.from_file, values.arms)):
        axes.append(axis)
    return (mistakes.of(grid.product, axes) or []) if axes else []


def heldout_folders(base: ConfigDict) -> tuple[str, ...]:
    """Where a page's held-out losses come from."""
    return tuple(dict.fromkeys(source.path for source in base.heldout.sources.values()))


def main(_) -> None:
    logs.start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its runs end with it
    values, mistakes = flags.FLAGS, Mistakes()
    mistakes.of(command_line.writable, values.workdir, "--workdir")
    folders = tuple(values.evaluate) or heldout_folders(values.config)
    unfinished = sweep(
        values.config,
        arms_of(values, mistakes),
        Path(values.workdir),
        seeds=values.seeds,
        evaluation=Evaluation(folders, values.limit, values.rows),
        parallel=values.parallel,
        retry_failed=values.retry_failed,
        where=values.submit,
        released=values.released,
        mistakes=mistakes,
    )
    if unfinished:
        raise Ending(f"{unfinished} runs are not finished")


if __name__ == "__main__":
    pages.define_flag()
    flags.DEFINE_multi_string("grid", [], "FIELD=V,V;FIELD=V,V: every combination.")
    flags.DEFINE_multi_string("zip", [], "FIELD=V,V;FIELD=V,V: fields that move together.")
    flags.DEFINE_string("arms", "", "A Python file with get_arms(variant), `:variant` after it.")
    flags.DEFINE_integer("seeds", 1, "Runs of each arm: seeds 0, 1, ..", lower_bound=1)
    flags.DEFINE_string("workdir", None, "Where the runs and the report go.")
    flags.DEFINE_integer("parallel", 1, "Runs at a time.", lower_bound=1)
    flags.DEFINE_bool("retry_failed", False, "Try failed runs again.")
    flags.DEFINE_list("evaluate", [], "Folders of records to score (default: the held-out ones).")
    flags.DEFINE_integer("limit", 256, "The first records of each.", lower_bound=1)
    flags.DEFINE_integer("rows", 32, "Questions to a batch.", lower_bound=1)
    flags.DEFINE_enum("submit", "here", submit.WHERE, "Who trains: this machine or a scheduler.")
    flags.DEFINE_string("released", "", "Folder of ARM/plan.json that launch/compile.py wrote.")
    command_line.start(main, required=["config", "workdir"])
