"""The whole path in minutes on two CPU cores: `python launch/demo.py --workdir=runs/demo`.

data     draw bilingual scenes, write ArrayRecord shards, train a small vocabulary
stage 0  the decoder learns to write captions from text alone; the rest is frozen
stage 1  the ViT and the adapter learn to show pictures to the frozen decoder
test     captions of scenes never seen, in both languages, beside the same for shuffled pictures
"""

import json
import sys
import time
from pathlib import Path

from absl import flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from configs import stage0, stage1
from data_pipelines.build.scenes import SceneConfig, build_scenes
from launch import captions, logs, stage
from qwenvl_jax import command_line
from qwenvl_jax.train.metrics import read_metrics
from qwenvl_jax.train.stop import Stop

_WORKDIR = flags.DEFINE_string("workdir", "runs/demo", "Where everything goes.")


def demo(workdir: Path) -> dict:
    """Run every part that is not yet done; returns what is written to `results.json`."""
    clock, seconds = time.perf_counter(), {}

    def lap(name: str) -> None:
        nonlocal clock
        seconds[name] = round(time.perf_counter() - clock, 1)
        clock = time.perf_counter()

    data = workdir / "data"
    if not (data / "tokenizer.model").exists():
        build_scenes(SceneConfig(), data)
    lap("data")
    for name, page in (("stage0", stage0), ("stage1", stage1)):
        config = page.get_config(f"demo,data={data}")
        if name == "stage1":
            config.init.checkpoint = str(workdir / "stage0")
        with Stop() as stop:
            stage.train(config, workdir / name, stop=stop)
        lap(name)
    results = captions.evaluate(workdir / "stage1", data, scenes=256)
    lap("test")
    last = read_metrics(workdir / "stage1" / "metrics.jsonl")[-20:]
    fill = [1 - line["padding"] for line in last if "padding" in line]
    results["packing_fill"] = sum(fill) / len(fill)
    results["seconds"] = round(sum(seconds.values()), 1)
    results["seconds_by_part"] = seconds
    (workdir / "results.json").write_text(json.dumps(results, indent=1))
    return results


def main(_) -> None:
    logs.start()
    command_line.writable(_WORKDIR.value, "--workdir")
    workdir = Path(_WORKDIR.value)
    results = demo(workdir)
    print(captions.table(results))
    print(f"packing fill {results['packing_fill']:.1%}, {results['seconds']:.0f} s in all")
    print(f"look at {workdir}/stage1/captions.png and {workdir}/stage1/loss.png")


if __name__ == "__main__":
    command_line.start(main)
