"""Compare settings of a stage over seeds, in one command.

    python launch/sweep.py --config=configs/stage1.py:demo \\
        --grid='model.adapter.num_queries=4,9,16,25' --seeds=3 --workdir=runs/queries

Arms are the product of `--grid` (a field's values after `=`, fields apart by `;`), `--zip` (fields
that move together) and `--arms` (a Python file whose `get_arms` names them). Each run is a process
of its own in WORKDIR/ARM/seedN. The command may be given again at any time: finished runs are kept,
broken ones resumed, failed ones shown, and tried again with `--retry_failed`. Then it writes
WORKDIR/report.
"""

import signal
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict, config_flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from launch import logs
from launch.sweeps import grid, sweep_file
from launch.sweeps.compare import statement
from launch.sweeps.plan import plan
from launch.sweeps.report import write_report
from launch.sweeps.runner import Evaluation, run_all
from launch.sweeps.tables import markdown


def sweep(
    base: ConfigDict,
    arms: list[grid.Arm],
    workdir: Path,
    *,
    seeds: int,
    evaluation: Evaluation,
    parallel: int = 1,
    retry_failed: bool = False,
    released: str = "",
) -> int:
    """Run every arm with every seed and report; returns how many runs are not finished.

    Args:
      released: a JSON file {arm: {figure: value}} of what the arms cost at the released size.

    Raises:
      ValueError: every mistake there is, before anything is started.
    """
    runs = plan(base, arms, seeds=seeds, workdir=workdir)
    sweep_file.claim(workdir, runs, arms, evaluation=evaluation._asdict())
    unfinished = run_all(
        runs, workdir, evaluation=evaluation, parallel=parallel, retry_failed=retry_failed
    )
    if unfinished < len(runs):
        results = write_report(runs, workdir, released=released)
        print(markdown(results))
        for name, found in results.figures().items():
            print(f"{name}: {statement(found)}")
        print(f"look at {workdir}/report/report.html")
    return unfinished


def heldout_folders(base: ConfigDict) -> tuple[str, ...]:
    """Where a page's held-out losses come from."""
    return tuple(dict.fromkeys(source.path for source in base.heldout.sources.values()))


def main(_) -> None:
    logs.start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its runs end with it
    values = flags.FLAGS
    try:
        axes = [axis for text in values.grid for axis in grid.grid(text)]
        axes += [grid.zipped(text) for text in values.zip]
        axes += [grid.from_file(values.arms)] if values.arms else []
        if not axes:
            raise ValueError("no arms: give --grid, --zip or --arms")
        unfinished = sweep(
            values.config,
            grid.product(axes),
            Path(values.workdir),
            seeds=values.seeds,
            evaluation=Evaluation(
                tuple(values.evaluate) or heldout_folders(values.config), values.limit, values.rows
            ),
            parallel=values.parallel,
            retry_failed=values.retry_failed,
            released=values.released,
        )
    except ValueError as error:
        sys.exit(f"sweep: {error}")
    if unfinished:
        sys.exit(f"sweep: {unfinished} runs are not finished")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", help_string="A page of configs/.")
    flags.DEFINE_multi_string("grid", [], "FIELD=V,V;FIELD=V,V: every combination.")
    flags.DEFINE_multi_string("zip", [], "FIELD=V,V;FIELD=V,V: fields that move together.")
    flags.DEFINE_string("arms", "", "A Python file with get_arms(variant), `:variant` after it.")
    flags.DEFINE_integer("seeds", 1, "Runs of each arm: seeds 0, 1, ..", lower_bound=1)
    flags.DEFINE_string("workdir", None, "Where the runs and the report go.")
    flags.DEFINE_integer("parallel", 1, "Runs at a time on this machine.", lower_bound=1)
    flags.DEFINE_bool("retry_failed", False, "Try failed runs again.")
    flags.DEFINE_list("evaluate", [], "Folders of records to score (default: the held-out ones).")
    flags.DEFINE_integer("limit", 256, "The first records of each.", lower_bound=1)
    flags.DEFINE_integer("rows", 32, "Questions to a batch.", lower_bound=1)
    flags.DEFINE_string("released", "", "JSON {arm: {figure: value}}: costs at the released size.")
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
