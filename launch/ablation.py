"""The paper's query-count ablation on the embedded scenes: `make ablation`.

data     scenes of one or two objects, and text that describes as many
stage 0  one decoder for every run; its text shows scenes as 4, 9, 16 and 25 signs alike, so that
         no query count meets a decoder that was made for it
sweep    stage 1 with 4, 9, 16 and 25 queries, three seeds each, the same pictures in every arm
report   WORKDIR/sweep/report
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from configs import stage0, stage1
from configs.ablations import queries
from data_pipelines.build.scenes import SceneConfig, build_scenes
from launch import logs
from launch.sweep import sweep
from launch.sweeps.grid import Arm
from launch.sweeps.runner import Evaluation
from qwenvl_jax import command_line
from qwenvl_jax.checkpoint import run_config
from qwenvl_jax.endings import Ending

SCENES = SceneConfig(scenes=20_000, text_scenes=15_000, kinds=12, max_objects=2, vocab_size=512)
_WORKDIR = flags.DEFINE_string("workdir", "runs/ablation", "Where everything goes.")
_PARALLEL = flags.DEFINE_integer("parallel", len(os.sched_getaffinity(0)), "Runs at a time.")
_STEPS = flags.DEFINE_integer("steps", 300, "Of each run of stage 1.", lower_bound=51)
_DECODER_STEPS = flags.DEFINE_integer("decoder_steps", 600, "Of stage 0.", lower_bound=51)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each query count.", lower_bound=1)


def build_data(folder: Path) -> None:
    """Scenes, a tokenizer, and text for every grid of queries in `folder/gridN`."""
    for count in queries.DEMO_QUERIES:
        side = round(count**0.5)
        own = SCENES._replace(grid=side)
        where = folder if side == SCENES.grid else folder / f"grid{side}"
        if side != SCENES.grid:
            own = own._replace(scenes=0)
        if not (where / "tokenizer.model").exists():
            build_scenes(own, where)


def decoder_page(folder: Path, steps: int) -> ConfigDict:
    """Stage 0 on the text of all grids in equal parts."""
    config = stage0.get_config(f"demo,data={folder}")
    for part in (config.data, config.heldout):
        for name, source in list(part.sources.items()):
            for side in (round(count**0.5) for count in queries.DEMO_QUERIES):
                if side != SCENES.grid:
                    path = source.path.replace(str(folder), f"{folder}/grid{side}", 1)
                    part.sources[f"{name}_{side}"] = ConfigDict(source.to_dict() | {"path": path})
    config.optim.steps = config.checkpoint.every = config.eval_every = steps
    return config


def captions_page(folder: Path, decoder: Path, steps: int) -> ConfigDict:
    """Stage 1 as every arm has it."""
    config = stage1.get_config(f"demo,data={folder}")
    config.init.checkpoint = str(decoder)
    config.optim.steps, config.optim.warmup_steps = steps, 50
    config.eval_every, config.checkpoint.every = steps, steps
    config.data.num_workers = 0
    return config


def train(config: ConfigDict, workdir: Path) -> None:
    """In a process of its own: this one must hold no device while the sweep's runs want one."""
    workdir.mkdir(parents=True, exist_ok=True)
    run_config.write(workdir, json.loads(config.to_json()))
    stored = workdir / run_config.NAME
    command = [f"{ROOT}/launch/run.py", f"--config={ROOT}/configs/stored.py:{stored}"]
    code = subprocess.run([sys.executable, *command, f"--workdir={workdir}"]).returncode
    if code:
        error = Ending(f"{workdir} is not trained; its last line says why")
        error.code = code
        raise error


def main(_) -> None:
    logs.start()
    command_line.writable(_WORKDIR.value, "--workdir")
    workdir = Path(_WORKDIR.value)
    data, decoder = workdir / "data", workdir / "stage0"
    build_data(data)
    train(decoder_page(data, _DECODER_STEPS.value), decoder)
    test = tuple(str(data / "test" / f"scenes_{language}") for language in ("en", "zh"))
    unfinished = sweep(
        captions_page(data, decoder, _STEPS.value),
        [Arm(name, overrides) for name, overrides in queries.get_arms("demo").items()],
        workdir / "sweep",
        seeds=_SEEDS.value,
        evaluation=Evaluation(test, limit=256, rows=64),
        parallel=_PARALLEL.value,
    )
    if unfinished:
        raise Ending(f"{unfinished} runs are not finished")


if __name__ == "__main__":
    command_line.start(main)
