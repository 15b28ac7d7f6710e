"""What can be known of a stage before anything compiles: seconds of work, no accelerator."""

from collections.abc import Iterable
from pathlib import Path

from data_pipelines.stream.config import StreamConfig
from data_pipelines.stream.source import ShardedSource
from launch.loop_scores import ScoresConfig
from qwenvl_jax import command_line, trees
from qwenvl_jax.checkpoint import resized, room, run_config
from qwenvl_jax.checkpoint.names import parameter_shapes
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.parallel import rules
from qwenvl_jax.text.tokenizer import Tokenizer
from qwenvl_jax.train import optim, starting
from qwenvl_jax.train.config import TrainConfig

_MOMENTS = 2  # Adam's, float32, beside the float32 parameter


def folders(paths: Iterable[str]) -> None:
    """Whether shards of records are there.

    Raises:
      ValueError: names every folder that is missing or damaged.
    """
    errors = []
    for folder in dict.fromkeys(paths):
        if "://" in str(folder):
            errors.append(f"source {folder}: URLs are not taken; mount the bucket as a folder")
            continue
        try:
            ShardedSource(folder)
        except (ValueError, FileNotFoundError) as error:
            errors.append(str(error))
    if errors:
        raise ValueError("; ".join(errors))


def vocabulary(model: ModelConfig, tokenizer: Tokenizer) -> None:
    """Whether every id has a row of the embedding, and images take the place of the right token.

    Raises:
      ValueError: names the model's field.
    """
    decoder = model.decoder
    if tokenizer.vocab_size > decoder.vocab_size:
        raise ValueError(
            f"config.model.decoder.vocab_size={decoder.vocab_size}: {tokenizer.path} has"
            f" {tokenizer.vocab_size} entries; {tokenizer.padded_vocab_size} rows hold them"
        )
    if tokenizer.specials.imgpad != decoder.image_pad_id:
        raise ValueError(
            f"config.model.decoder.image_pad_id={decoder.image_pad_id}: <imgpad> of"
            f" {tokenizer.path} is {tokenizer.specials.imgpad}"
        )


def workers(stream: StreamConfig, *, processes: int) -> None:
    """Whether a process's virtual shards divide over its workers.

    Raises:
      ValueError: names the numbers that do.
    """
    local, rest = divmod(stream.virtual_shards, processes)
    if not rest and stream.num_workers and local % stream.num_workers:
        fits = [n for n in range(1, local + 1) if local % n == 0]
        near = sorted(sorted(fits, key=lambda n: abs(n - stream.num_workers))[:3])
        raise ValueError(
            f"config.data.num_workers={stream.num_workers} does not divide the {local} virtual"
            f" shards of a host; nearest that do: {near}"
        )


def start(config: TrainConfig) -> None:
    """Whether something is trained, and the weights that a stage starts from are there and fit it.

    Raises:
      ValueError: names `config.init`'s field and the parameters that do not fit, or
      `config.optim.trainable`.
    """
    init, model = config.init, config.model
    optim.split(config.optim, parameter_shapes(model))
    starting.check(model, init)
    if not init.checkpoint:
        return
    try:
        saved = run_config.read(init.checkpoint)
    except ValueError as error:
        raise ValueError(f"config.init.checkpoint={init.checkpoint}: {error}") from None
    theirs = ModelConfig.from_dict(saved["model"])
    have, want = theirs.adapter.num_queries, model.adapter.num_queries
    if have != want and init.takes("adapter/query") and init.resize_queries == "refuse":
        raise ValueError(
            f"config.init.checkpoint={init.checkpoint} has {have} queries and"
            f" config.model.adapter.num_queries={want}: set config.init.resize_queries to"
            " interpolate or random, or leave them out of config.init.take"
        )
    shapes = [parameter_shapes(m) for m in (theirs, model)]
    found, wanted = (trees.partition(tree, init.takes)[0] for tree in shapes)
    if not wanted:
        hint = rules.unmatched_hint(init.take, list(trees.flatten(shapes[1])))
        raise ValueError(f"config.init.take={init.take!r} matches no parameter{hint}")
    fitted = resized.stored_shapes(wanted, found, init.resize_queries)
    trees.check_same_shapes(fitted, found, what=f"config.init.checkpoint={init.checkpoint}")


def scores(config: ScoresConfig, heldout: StreamConfig) -> None:
    """Whether the font that draws answers is there. The sources are held-out ones: see `folders`.

    Raises:
      ValueError: names the missing package.
    """
    if not config.asked(heldout):
        return
    from data_pipelines.build.ocr.fonts import cjk_font

    try:
        cjk_font()
    except (ImportError, OSError, ValueError) as error:
        raise ValueError(f"config.scores.records={config.records}: {error}") from None


def work_directory(workdir: str | Path, config: TrainConfig) -> None:
    """Whether the directory can be written and its disk holds the checkpoints that will be kept.

    Raises:
      ValueError: names place and reason; for a disk, the bytes needed and free.
    """
    command_line.writable(workdir, "--workdir")
    root = Path(workdir)
    root.mkdir(parents=True, exist_ok=True)
    shapes = trees.flatten(parameter_shapes(config.model))
    size = dict.fromkeys((True, False), 0)
    for path, shape in shapes.items():
        size[config.optim.is_trainable(path)] += shape.size
    itemsize = 2 if config.model.dtype == "bfloat16" else 4
    most = config.checkpoint.most(config.optim.steps)
    room.room(root, size[True] * 4 * (1 + _MOMENTS), size[False] * itemsize, most)
