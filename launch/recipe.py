"""The whole recipe on two CPU cores: `python launch/recipe.py --workdir=runs/recipe`.

data     draw bilingual scenes for every task, write ArrayRecord shards, train a small vocabulary
stage 0  the decoder learns from text alone to caption scenes and to answer about them; the rest
         is frozen
stage 1  captions: the ViT and the adapter learn to show pictures to the frozen decoder
stage 2  seven tasks: everything learns
stage 3  dialogues: the ViT is frozen
export   stage 3 in the released PyTorch layout, compared back

After every stage its model answers the held-out records of all tasks it has been taught. What is
done is not done again, so a recipe that was stopped goes on where it was.
"""

import contextlib
import dataclasses
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from configs import stage0, stage1, stage2, stage3
from data_pipelines.build.scenes import SceneConfig, build_scenes
from launch import logs, recipe_report, stage, weights
from launch.evaluate import evaluate
from launch.loading import load_checkpoint
from launch.source_scores import HowAsked
from qwenvl_jax import command_line
from qwenvl_jax.checkpoint.exported import Check
from qwenvl_jax.train.stop import Stop

LANGUAGES = ("en", "zh")
SEVEN = ("scenes", "vqa", "grounding", "referring", "grounded_caption", "ocr", "text")
# Stage -> (config page, its variant, sources that its model is asked about).
STAGES = {
    "stage0": (stage0, "recipe", ("text",)),
    "stage1": (stage1, "recipe", ("scenes", "text")),
    "stage2": (stage2, "demo", SEVEN),
    "stage3": (stage3, "demo", (*SEVEN, "chat")),
}
ROWS = 50  # questions to a batch


@dataclasses.dataclass(frozen=True)
class RecipeConfig:
    """How much of everything; the defaults are those of `make recipe`."""

    scenes: SceneConfig = SceneConfig(
        scenes=24_000,
        eval_scenes=100,
        text_scenes=24_000,
        task_scenes=24_000,
        sign_scenes=4_000,
        kinds=16,
        grid=4,
        step=8,
        object_min=0.375,
        object_max=0.5,
    )
    records: int = 100  # held-out records of every task, in each language
    steps: float = 1.0  # share of each stage's steps
    size: str = "deep"  # of the model


VARIANTS = {
    "cpu": RecipeConfig(),
    "gpu": RecipeConfig(
        RecipeConfig.scenes._replace(
            kinds=60, image_size=128, step=8, scenes=40_000, text_scenes=40_000, task_scenes=40_000
        ),
        size="large",
    ),
}


def run(workdir: Path, config: RecipeConfig) -> dict[str, Any]:
    """Run every part that is not yet done; returns what is written to `results.json`.

    Raises:
      ValueError: the work directory is of a recipe of other sizes, or the export is not the
      checkpoint.
    """
    _claim(workdir, config)
    seconds = _Seconds(workdir / "seconds.json")
    data = workdir / "data"
    with seconds.part("data"):
        if not (data / "tokenizer.model").exists():
            build_scenes(config.scenes, data)
    scores: dict[str, list[dict[str, Any]]] = {}
    start = ""
    for name, (page, variant, sources) in STAGES.items():
        with seconds.part(name):
            page_config = page.get_config(f"{variant},data={data},size={config.size}")
            _train(page_config, workdir / name, start=start, share=config.steps)
        with seconds.part(f"scores of {name}"):
            scores[name] = _score(workdir / name, data / "test", sources, limit=config.records)
        start = str(workdir / name)
    with seconds.part("export"):
        checks = _export(Path(start), workdir / "export")
    results = {
        "scores": scores,
        "seconds": seconds.wall,
        "cpu_seconds": seconds.cpu,
        "export": [check._asdict() for check in checks],
    }
    (workdir / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False))
    return results


def _claim(workdir: Path, config: RecipeConfig) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    path, mine = workdir / "recipe.json", dataclasses.asdict(config)
    mine["scenes"] = config.scenes._asdict()
    theirs = json.loads(path.read_text()) if path.exists() else mine
    if theirs != mine:
        raise ValueError(f"{workdir} is of a recipe with {theirs}, not {mine}")
    path.write_text(json.dumps(mine))


def _train(config: ConfigDict, workdir: Path, *, start: str, share: float) -> None:
    config.init.checkpoint = start
    optim = config.optim
    optim.steps = max(round(optim.steps * share), 2)
    optim.warmup_steps = min(optim.warmup_steps, optim.steps // 2)
    if "restarts" in optim:
        last = optim.steps - optim.warmup_steps
        optim.restarts = tuple(step for step in optim.restarts if step < last)
    with Stop() as stop:
        stage.train(config, workdir, stop=stop)


def _score(
    workdir: Path, data: Path, sources: tuple[str, ...], *, limit: int
) -> list[dict[str, Any]]:
    """Scores of a stage's newest checkpoint; those it already has are read, not made again."""
    checkpoint = load_checkpoint(workdir)
    scores = []
    folders = [data / f"{source}_{language}" for source in sources for language in LANGUAGES]
    for count, folder in enumerate(folders, start=1):
        same = {"checkpoint": checkpoint.sha256, "data": str(folder), "limit": limit}
        known = _known(workdir / "scores.jsonl", same)
        how = HowAsked(limit, ROWS)
        scores += known or evaluate(workdir, folder, how, checkpoint=checkpoint)
        logging.info("%s: %d of %d sources scored", workdir.name, count, len(folders))
    return scores


def _known(path: Path, same: dict[str, Any]) -> list[dict[str, Any]]:
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    scores = [json.loads(line) for line in lines]
    return [score for score in scores if same.items() <= score.items()]


def _export(workdir: Path, out: Path) -> list[Check]:
    """Raises ValueError where the export is not the checkpoint."""
    if not (out / "MANIFEST.json").exists():
        weights.export_weights(workdir, out, dtype="float32", shard_bytes=10**9)
    checks = list(weights.verify(workdir, out))
    wrong = [check.what for check in checks if not check.ok]
    if wrong:
        raise ValueError(f"{out} is not the same as {workdir}: {', '.join(wrong)}")
    return checks


class _Seconds:
    """Wall time of each part, over all the times that the recipe was started, and what its
    processes had of the processors: on a busy machine the two differ.
    """

    def __init__(self, path: Path):
        self._path = path
        known = json.loads(path.read_text()) if path.exists() else {"wall": {}, "cpu": {}}
        self.wall: dict[str, float] = known["wall"]
        self.cpu: dict[str, float] = known["cpu"]

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        start, used = time.perf_counter(), _used()
        try:
            yield
        finally:
            self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - start
            self.cpu[name] = self.cpu.get(name, 0.0) + _used() - used
            self._path.write_text(json.dumps({"wall": self.wall, "cpu": self.cpu}))


def _used() -> float:
    """Processor seconds of this process and of those it has waited for."""
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, both))


def main(_) -> None:
    logs.start()
    values = flags.FLAGS
    command_line.writable(values.workdir, "--workdir")
    workdir = Path(values.workdir)
    config = VARIANTS[values.variant]
    config = dataclasses.replace(
        config, records=values.records or config.records, steps=values.steps
    )
    results = run(workdir, config)
    page = recipe_report.write(workdir, results)
    print(recipe_report.text(results))
    print(f"{sum(results['seconds'].values()):.0f} s in all; look at {page}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", "runs/recipe", "Where everything goes.")
    flags.DEFINE_enum("variant", "cpu", list(VARIANTS), "How large, for which machine.")
    flags.DEFINE_integer("records", 0, "Held-out records a task; 0: as many as the variant has.")
    flags.DEFINE_float("steps", RecipeConfig.steps, "Share of each stage's steps.")
    command_line.start(main)
