"""A stage from its config page: parsed, checked, trained in a work directory."""

import contextlib
import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_pipelines.stream.config import SourceConfig, StreamConfig
from data_pipelines.stream.stream import Stream, eval_batches
from launch import checks, pages, resumption
from launch.loop_scores import LoopScores, ScoresConfig
from qwenvl_jax import settings
from qwenvl_jax.checkpoint import intact, lock, run_config, vocabulary
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.text.tokenizer import Tokenizer, load_tokenizer
from qwenvl_jax.train import trainer
from qwenvl_jax.train.config import TrainConfig
from qwenvl_jax.train.placement import held_shards
from qwenvl_jax.train.report import Source
from qwenvl_jax.train.state import TrainState
from qwenvl_jax.train.stop import Stop


class Checked(NamedTuple):
    """A stage whose config page fits itself and the files that it names."""

    training: TrainConfig
    stream: StreamConfig
    heldout: StreamConfig
    tokenizer: Tokenizer


def check(config: ConfigDict, workdir: str | Path | None = None, *, processes: int = 1) -> Checked:
    """Everything that can be known before the compile, in seconds and without an accelerator.

    Args:
      workdir: where the run goes; None: it has none, or gets one later.
      processes: of the job.

    Raises:
      ValueError: the first mistake: key, value and what works.
    """
    training, stream, heldout = read(config)
    tokenizer = load_tokenizer(stream.tokenizer or None)
    checks.vocabulary(training.model, tokenizer)
    checks.workers(stream, processes=processes)
    checks.folders(source.path for source in (*stream.sources, *heldout.sources))
    checks.start(training)
    checks.scores(scores(config), heldout)
    if workdir is not None:
        checks.work_directory(workdir, training)
        if kept := intact.steps(Path(workdir)):
            saved, given = run_config.read(workdir), json.loads(config.to_json())
            step = kept[0] if training.resume.step < 0 else training.resume.step
            resumption.compare(saved, given, step=step, workdir=str(workdir))
    return Checked(training, stream, heldout, tokenizer)


def read(config: ConfigDict) -> tuple[TrainConfig, StreamConfig, StreamConfig]:
    """A config page -> (trainer, training stream, held-out stream), all checked against each other.

    No file is opened.

    Raises:
      ValueError: names the key that is unknown, missing, of the wrong type, or disagrees with
      another.
    """
    values = config.to_dict()
    data, heldout = values.pop("data"), values.pop("heldout")
    values.pop("scores", None)
    training = settings.build(TrainConfig, values, "config")
    data = _with_model(data, training.model, "config.data")
    without = _left_out(data["sources"])
    sources = _named(data["sources"], "config.data.sources", without)
    stream = settings.build(StreamConfig, data | {"sources": sources}, "config.data")
    # Held-out losses are compared across runs, whichever way these decode what they train on.
    batches = heldout.get("batches", 0)
    if not isinstance(batches, int) or batches < 1:
        raise ValueError(f"config.heldout.batches={batches!r} must be an integer, at least 1")
    own = {k: v for k, v in heldout.items() if k != "batches" and v is not None}
    other = data | {"decode": "exact"} | _with_model(own, training.model, "config.heldout")
    other["sources"] = _named(heldout["sources"], "config.heldout.sources", without)
    held_names, names = ([s.name for s in given] for given in (other["sources"], sources))
    if held_names != names:
        raise ValueError(
            f"config.heldout.sources {held_names} must name the sources of config.data.sources"
            f" {names} in the same order"
        )
    held = settings.build(StreamConfig, other, "config.heldout")
    scores(config).asked(held)
    training.check_batch(
        rows=stream.global_rows,
        row_length=stream.seq_len,
        images=stream.batch_slots,
        turns=stream.slot_turns,
    )
    return training, stream, held


def _with_model(data: dict, model: ModelConfig, key: str) -> dict:
    """The stream's settings with what it takes from the model.

    Raises:
      ValueError: a stored config of an older version says another number.
    """
    given = {"image_size": model.vit.image_size, "num_queries": model.adapter.num_queries}
    for name, value in given.items():
        if data.get(name, value) != value:
            raise ValueError(
                f"{key}.{name}={data[name]} is not config.{pages.OF_THE_MODEL[name]}={value};"
                " leave it out"
            )
    return data | given


def scores(config: ConfigDict) -> ScoresConfig:
    """What the loop asks; nothing where the page says nothing about it.

    Raises:
      ValueError: names the key that is unknown, of the wrong type or out of range.
    """
    return settings.build(ScoresConfig, config.to_dict().get("scores", {}), "config.scores")


def _named(sources: dict, key: str, without: Collection[str] = ()) -> tuple[SourceConfig, ...]:
    """{name: {path, weight, ..}} -> settings of each source but those left out.

    Args:
      key: how the user calls the group.
    """
    given = {name: source for name, source in sources.items() if name not in without}
    return tuple(
        settings.build(SourceConfig, {"name": name, **source}, f"{key}.{name}")
        for name, source in given.items()
    )


def _left_out(sources: dict) -> list[str]:
    """Names of the sources that never come: weight 0, which nothing changes."""
    return [n for n, s in sources.items() if s.get("weight") == 0 and not s.get("changes")]


def train(
    config: ConfigDict, workdir: str | Path, *, stop: Stop | None = None
) -> tuple[TrainState, dict]:
    """Run a stage from its config; returns the final state and the frozen parameters.

    Args:
      stop: the signals that end the run early.

    Raises:
      ValueError: as `check`, or another run has the work directory.
    """
    checked = check(config, workdir, processes=jax.process_count())
    owner = lock.held(workdir) if jax.process_index() == 0 else contextlib.nullcontext()
    with owner:
        return _train(config, Path(workdir), checked, stop)


def _train(
    config: ConfigDict, workdir: Path, checked: Checked, stop: Stop | None
) -> tuple[TrainState, dict]:
    training, stream, heldout, tokenizer = checked
    plain = json.loads(config.to_json())
    score = None
    if scores(config).records:
        score = LoopScores(
            scores(config), workdir=workdir, training=training, heldout=heldout, run_config=plain
        )
    if jax.process_index() == 0:
        vocabulary.keep(workdir, tokenizer.path)
        run_config.write(workdir, plain)

    def open_stream(sharding, state):
        shards = held_shards(sharding, stream.virtual_shards)
        return Stream(stream, shards=shards, state=state)

    def heldout_batches(sharding):
        shards = held_shards(sharding, heldout.virtual_shards)
        return eval_batches(heldout, num_batches=config.heldout.batches, shards=shards)

    return trainer.run(
        training,
        workdir=workdir,
        run_config=plain,
        batch_shapes=stream.batch_shapes(),
        group_slots=stream.group_slots,
        sources=[Source(source.name, source.language) for source in stream.sources],
        open_stream=open_stream,
        eval_batches=heldout_batches,
        score=score,
        stop=stop,
        inputs={"config.data.tokenizer": tokenizer.path},
    )
