"""A stage from its config page: parsed, checked, trained in a work directory."""

import json
import sys
from pathlib import Path

import jax
from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_pipelines.stream.config import StreamConfig
from data_pipelines.stream.stream import Stream, eval_batches
from launch.loop_scores import LoopScores, ScoresConfig
from qwenvl_jax import settings
from qwenvl_jax.checkpoint import run_config
from qwenvl_jax.text.tokenizer import load_tokenizer
from qwenvl_jax.train import trainer
from qwenvl_jax.train.config import TrainConfig
from qwenvl_jax.train.placement import held_shards
from qwenvl_jax.train.report import Source
from qwenvl_jax.train.state import TrainState
from qwenvl_jax.train.stop import Stop


def parse(config: ConfigDict) -> tuple[TrainConfig, StreamConfig, StreamConfig]:
    """`read`, and the vocabulary is there as well.

    Raises:
      ValueError: as `read`, or a vocabulary that is missing or damaged.
    """
    training, stream, held = read(config)
    load_tokenizer(stream.tokenizer or None)  # told before a compile
    return training, stream, held


def read(config: ConfigDict) -> tuple[TrainConfig, StreamConfig, StreamConfig]:
    """A config page -> (trainer, training stream, held-out stream), all checked against each other.

    Raises:
      ValueError: names the key that is unknown, missing, of the wrong type, or disagrees with
      another.
    """
    values = config.to_dict()
    data, heldout = values.pop("data"), values.pop("heldout")
    values.pop("scores", None)
    training = settings.build(TrainConfig, values, "config")
    stream = settings.build(
        StreamConfig, data | {"sources": _named(data["sources"])}, "config.data"
    )
    # Held-out losses are compared across runs, whichever way these decode what they train on.
    own = {k: v for k, v in heldout.items() if k != "batches" and v is not None}
    other = data | {"decode": "exact"} | own
    other["sources"] = _named(heldout["sources"])
    if list(heldout["sources"]) != list(data["sources"]):
        raise ValueError(
            f"config.heldout.sources {list(heldout['sources'])} must name the sources of"
            f" config.data.sources {list(data['sources'])} in the same order"
        )
    held = settings.build(StreamConfig, other, "config.heldout")
    scores(config).asked(held)
    training.check_batch(
        rows=stream.global_rows,
        row_length=stream.seq_len,
        images=stream.batch_slots,
        turns=stream.slot_turns,
        image_size=stream.image_size,
        num_queries=stream.num_queries,
    )
    return training, stream, held


def scores(config: ConfigDict) -> ScoresConfig:
    """What the loop asks; nothing where the page says nothing about it.

    Raises:
      ValueError: names the key that is unknown, of the wrong type or out of range.
    """
    return settings.build(ScoresConfig, config.to_dict().get("scores", {}), "config.scores")


def _named(sources: dict) -> list[dict]:
    """{name: {path, weight, ..}} -> [{name, path, weight, ..}]: a source's key is its name."""
    return [{"name": name, **source} for name, source in sources.items()]


def train(
    config: ConfigDict, workdir: str | Path, *, stop: Stop | None = None
) -> tuple[TrainState, dict]:
    """Run a stage from its config; returns the final state and the frozen parameters.

    Args:
      stop: the signals that end the run early.
    """
    training, stream, heldout = parse(config)
    workdir = Path(workdir)
    plain = json.loads(config.to_json())
    score = None
    if scores(config).records:
        score = LoopScores(
            scores(config), workdir=workdir, training=training, heldout=heldout, run_config=plain
        )
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
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
    )
