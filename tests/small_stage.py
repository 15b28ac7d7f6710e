"""A stage that trains in seconds: its data, its page, and what its work directory holds."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from benchmarks.faults.job import TIMING
from configs import stage1
from data_pipelines.build.scenes import SceneConfig, build_scenes


def write_data(folder: Path) -> Path:
    """A data set small enough to make in a second or two."""
    sizes = SceneConfig(scenes=64, eval_scenes=16, text_scenes=400, shards=2, processes=1)
    build_scenes(sizes, folder)
    return folder


def page(data: Path, module=stage1) -> ConfigDict:
    """The demo's config, made smaller still."""
    config = module.get_config(f"demo,data={data}")
    config.data.update(dict(global_rows=2, virtual_shards=2, look_ahead=24, num_workers=0))
    config.heldout.batches = 1
    config.optim.update(dict(steps=8, warmup_steps=2))
    config.checkpoint.every = config.eval_every = 4
    for tower in (config.model.vit, config.model.decoder):
        tower.update(dict(width=32, layers=2, mlp_width=48))
    return config


def logged(workdir: Path) -> list[dict]:
    """Every metric that is not a clock's, by step."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    lines = [{k: v for k, v in m.items() if not any(t in k for t in TIMING)} for m in lines]
    return sorted(lines, key=lambda line: (line["step"], "heldout" in line))


def meta(workdir: Path, step: int) -> dict:
    """The plain data of a checkpoint."""
    return json.loads((workdir / "checkpoints" / str(step) / "meta" / "metadata").read_text())


def kept(workdir: Path) -> list[int]:
    """The steps on disk."""
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
