"""Scores while training: at every evaluation the model's own answers to some held-out records.

The run's present weights are asked where they lie, sharded as the step has them, in the compute
dtype; what is asked and how it is scored is `launch/evaluate.py`'s. Names in the metrics are
`score/SOURCE/TASK_LANGUAGE/METRIC`, and `blind/..` for the same with shuffled pictures.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import logging

from data_pipelines.stream.config import SourceConfig, StreamConfig
from launch.loading import Checkpoint
from launch.source_scores import HowAsked, score_lines, score_source, write_answers
from qwenvl_jax import trees
from qwenvl_jax.text.tokenizer import load_tokenizer
from qwenvl_jax.train.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class ScoresConfig:
    """`config.scores`: which held-out records are asked at every `config.eval_every` steps."""

    records: int = 0  # the first ones of every source; 0: none are asked
    sources: str = ""  # names in config.heldout.sources, a comma between two; empty: all of them
    rows: int = 32  # questions to a batch
    beams: int = 1
    blind: bool = False  # also with shuffled pictures, at twice the cost

    def __post_init__(self):
        for name, least in (("records", 0), ("rows", 1), ("beams", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"config.scores.{name}={getattr(self, name)}: at least {least}")

    def asked(self, heldout: StreamConfig) -> list[SourceConfig]:
        """The sources that are asked.

        Raises:
          ValueError: a name that no held-out source has.
        """
        if not self.records:
            return []
        there = {source.name: source for source in heldout.sources}
        names = [name.strip() for name in self.sources.split(",") if name.strip()] or list(there)
        for name in names:
            if name not in there:
                raise ValueError(
                    f"config.scores.sources: {name!r} is none of config.heldout.sources,"
                    f" {', '.join(there)}"
                )
        return [there[name] for name in names]


class LoopScores:
    """Called with the steps done and all parameters, under the run's mesh.

    Writes `WORKDIR/scores/STEP/` whole, so that a run that is resumed there leaves the same:
    `scores.jsonl` (prompt, data, decoding, normaliser and step in every line) and the answers.
    """

    def __init__(
        self,
        config: ScoresConfig,
        *,
        workdir: Path,
        training: TrainConfig,
        heldout: StreamConfig,
        run_config: dict[str, Any],
    ):
        self._how = HowAsked(config.records, config.rows, config.beams, config.blind)
        self._sources = config.asked(heldout)
        self._tokenizer = load_tokenizer(heldout.tokenizer or None)
        self._out, self._training, self._heldout = workdir / "scores", training, heldout
        self._run_config = run_config

    def __call__(
        self, step: int, params: trees.Tree, ended: Callable[[], bool]
    ) -> dict[str, float] | None:
        """Scores by name; None, with nothing written, where `ended` says so after a source."""
        model = self._training.model
        params = jax.tree.map(lambda x: x.astype(model.dtype), params)
        mesh = jax.sharding.get_mesh()
        now = Checkpoint(model, params, self._tokenizer, self._run_config, step, None, mesh)
        lines, metrics, main = [], {}, jax.process_index() == 0
        out = self._out / str(step)
        answers = []
        for source in self._sources:
            found = score_source(
                now,
                source.path,
                self._how,
                stream=self._heldout,
                chunk=self._training.loss_chunk,
            )
            lines += found.lines
            for line in found.lines:
                where = f"{source.name}/{line['task']}_{line['language']}/{line['metric']}"
                metrics[f"score/{where}"] = line["value"]
                if line["blind"] is not None:
                    metrics[f"blind/{where}"] = line["blind"]
            answers.append((source.name, found.groups))
            if ended():
                return None
        if main:
            for name, groups in answers:
                for group in groups:
                    write_answers(group, out, name)
            out.mkdir(parents=True, exist_ok=True)
            (out / "scores.jsonl").write_text(score_lines(lines), "utf-8")
            shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            logging.info("step %d: %s", step, shown)
        return metrics
