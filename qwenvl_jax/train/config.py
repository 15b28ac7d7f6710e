"""TrainConfig: everything the trainer reads, checked before anything is compiled."""

import dataclasses
import re

from qwenvl_jax.checkpoint.policy import CheckpointConfig
from qwenvl_jax.checkpoint.resized import ResizeQueries
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.parallel.mesh import MeshConfig
from qwenvl_jax.train.optim import OptimConfig


@dataclasses.dataclass(frozen=True)
class InitConfig:
    """Starting weights; random where nothing is named."""

    checkpoint: str = ""  # work directory of an earlier stage
    take: str = ".*"  # regex over the paths of the parameters that come from there
    vit: str = ""  # PyTorch directory or file: OpenCLIP's, or a Qwen-VL's
    adapter: str = ""  # a Qwen-VL's
    decoder: str = ""  # Qwen-7B's, or a Qwen-VL's
    resize_queries: ResizeQueries = "refuse"  # where their number differs

    def __post_init__(self):
        try:
            re.compile(self.take)
        except re.error as error:
            raise ValueError(f"config.init.take is no regular expression: {error}") from None

    def sources(self) -> dict[str, str]:
        """Tower -> the PyTorch directory or file that it comes from, where one is named."""
        named = {tower: getattr(self, tower) for tower in ("vit", "adapter", "decoder")}
        return {tower: path for tower, path in named.items() if path}

    def takes(self, path: str) -> bool:
        """Whether the parameter at `path` comes from the checkpoint."""
        return re.fullmatch(self.take, path) is not None


@dataclasses.dataclass(frozen=True)
class ResumeConfig:
    """How a work directory goes on that holds checkpoints; by default where its newest one ends.

    What is asked here is done once and noted in the checkpoints that follow. The same command,
    given again after a preemption, goes on from the newest of these.
    """

    step: int = -1  # a kept step to go back to; newer ones are set aside. -1: the newest
    skip_batches: int = 0  # the next batches of the stream, left out

    def __post_init__(self):
        if self.step < -1:
            raise ValueError(f"config.resume.step={self.step}: a kept step, or -1 for the newest")
        if self.skip_batches < 0:
            raise ValueError(f"config.resume.skip_batches={self.skip_batches}: at least 0")

    def __bool__(self) -> bool:
        """Whether anything is asked."""
        return self.step >= 0 or self.skip_batches > 0


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    seed: int
    model: ModelConfig
    optim: OptimConfig
    mesh: MeshConfig = MeshConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    init: InitConfig = InitConfig()
    resume: ResumeConfig = ResumeConfig()
    loss_chunk: int = 64  # labelled positions of a device whose logits exist at once
    eval_every: int = 1000

    def __post_init__(self):
        if self.eval_every < 1:
            raise ValueError(f"config.eval_every={self.eval_every} must be at least 1")

    def check_batch(
        self,
        *,
        rows: int,
        row_length: int,
        images: int,
        turns: int,
    ) -> None:
        """Whether batches of these sizes fit model and mesh.

        Args:
          images: slots of the whole batch.
          turns: microbatches over which rows that have slots together are spread.

        Raises:
          ValueError: names the config keys that disagree.
        """
        num_queries = self.model.adapter.num_queries
        most = rows * (row_length // (num_queries + 2))  # <img> and </img> around the queries
        if images > most:
            raise ValueError(
                f"config.data.image_slots: {images} slots a batch, but {rows} rows of"
                f" config.data.seq_len={row_length} have room for {most} images of"
                f" config.model.adapter.num_queries={num_queries}; at most {most // rows} a row"
            )
        if self.loss_chunk < 1:
            raise ValueError(f"config.loss_chunk={self.loss_chunk} must be at least 1")
        if row_length > self.model.decoder.train_length:
            raise ValueError(
                f"config.data.seq_len={row_length} is above"
                f" config.model.decoder.train_length={self.model.decoder.train_length}"
            )
        if rows % self.optim.accumulation:
            fits = [n for n in range(1, rows + 1) if rows % n == 0]
            near = sorted(fits, key=lambda n: abs(n - self.optim.accumulation))[:3]
            raise ValueError(
                f"config.optim.accumulation={self.optim.accumulation} does not divide"
                f" config.data.global_rows={rows}; nearest that do: {sorted(near)}"
            )
        if self.optim.accumulation % turns:
            raise ValueError(
                f"config.data.slot_turns={turns} does not divide"
                f" config.optim.accumulation={self.optim.accumulation}: so many microbatches have"
                " image slots together; with 1 each has its own"
            )
