"""The matrix of faults on a tiny model: `python -m benchmarks.faults --out=docs/figures/faults.md`.

Prints a row for every fault: what is expected, what was seen how often. Takes about half an hour on
two idle cores with the defaults, minutes with `--short`.
"""

import argparse
import datetime
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from absl import flags

from benchmarks.faults import damage, interruptions, machine
from benchmarks.faults.table import markdown
from data_pipelines.build.scenes import SceneConfig, build_scenes


def main() -> int:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parts = ("kills", "signals", "step", "frozen", "data", "files", "logs", "machine", "processes")
    parser.add_argument("--parts", default=",".join(parts), help="which; all by default")
    parser.add_argument("--kills", type=int, default=25, help="kills of each of the four phases")
    parser.add_argument("--flips", type=int, default=100, help="bits of a step and of the data")
    parser.add_argument("--short", action="store_true", help="a trial or two of each")
    parser.add_argument("--out", type=Path, help="file for the table, as Markdown")
    arguments = parser.parse_args()
    kills, flips, few = arguments.kills, arguments.flips, 20
    if arguments.short:
        kills, flips, few = 1, 10, 2
    flags.FLAGS.mark_as_parsed()
    scratch = Path(tempfile.mkdtemp(prefix="faults"))
    data = scratch / "data"
    sizes = SceneConfig(scenes=64, eval_scenes=16, text_scenes=400, shards=2, processes=1)
    build_scenes(sizes, data)
    bench = interruptions.Bench(data, scratch)
    work = {
        "kills": lambda: interruptions.kills(bench, kills),
        "signals": lambda: interruptions.signals(bench),
        "step": lambda: [damage.newest_step(bench, flips)],
        "frozen": lambda: [damage.frozen(bench, few)],
        "data": lambda: [damage.data(bench, flips)],
        "files": lambda: damage.files(bench, few),
        "logs": lambda: [damage.logs(bench)],
        "machine": lambda: [
            one(bench)
            for one in (
                machine.not_finite,
                machine.disk_full,
                machine.read_only,
                machine.two_runs,
                machine.orphans,
            )
        ],
        "processes": lambda: machine.processes(bench),
    }
    rows = []
    for part in arguments.parts.split(","):
        if part not in work:
            parser.error(f"--parts={part} is not known; there is: {', '.join(work)}")
        print(f"faults: {part} ..", file=sys.stderr, flush=True)
        rows += work[part]()
        print(markdown(rows), file=sys.stderr, flush=True)
    text = markdown(rows)
    print(text)
    if arguments.out:
        day = datetime.date.today()
        command = " ".join(["python -m benchmarks.faults", *sys.argv[1:]])
        arguments.out.write_text(f"`{command}`, {day}:\n\n{text}\n", "utf-8")
    shutil.rmtree(scratch, ignore_errors=True)
    return any(row.wrong or not row.seen for row in rows)


if __name__ == "__main__":
    sys.exit(main())
