"""What a run says about itself: memory before step 0, a line of metrics a step, held-out losses,
curves at the end.
"""

import contextlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from qwenvl_jax.checkpoint import room
from qwenvl_jax.train import flops, guard
from qwenvl_jax.train.bad_steps import SkippedRow
from qwenvl_jax.train.config import TrainConfig
from qwenvl_jax.train.events import Events
from qwenvl_jax.train.metrics import MetricWriter, Progress
from qwenvl_jax.train.plots import plot_losses
from qwenvl_jax.train.timer import Timer


class Source(NamedTuple):
    """What an entry of `Batch.sources` means."""

    name: str
    language: str


def losses_by_group(sums: dict[str, np.ndarray], sources: list[Source], prefix: str) -> dict:
    """Mean loss in nats a labelled token: overall, per source and per language; groups without
    tokens are left out.
    """
    total, count = np.asarray(sums["loss_sum"], float), np.asarray(sums["labelled"], float)
    groups = {prefix: np.ones(len(sources), bool)}
    for language in sorted({source.language for source in sources}):
        groups[f"{prefix}/{language}"] = np.array([s.language == language for s in sources])
    for index, source in enumerate(sources):
        groups[f"{prefix}/{source.name}"] = np.arange(len(sources)) == index
    return {
        name: float(total[members].sum() / count[members].sum())
        for name, members in groups.items()
        if count[members].sum() > 0
    }


class Report:
    """Writes metrics, progress and plots of one run; only the first process of a job writes."""

    def __init__(
        self,
        workdir: Path,
        config: TrainConfig,
        sources: list[Source],
        mesh: Mesh,
        *,
        positions: int,
        slots: int,
    ):
        """Positions and image slots are those of a batch."""
        self._workdir, self._config, self._sources = workdir, config, sources
        self._positions, self._slots = positions, slots
        kind = mesh.devices.flat[0].device_kind
        self._peak = flops.PEAK.get(kind, 0.0) * mesh.devices.size
        self._devices = f"{mesh.devices.size} x {kind}"
        self._main = jax.process_index() == 0
        self.events = Events(workdir)
        self.skipped = SkippedRow(workdir, config.optim.max_bad_steps)
        self._writer: MetricWriter | None = None
        self._pending: tuple[int, dict[str, Any]] | None = None

    def memory(self, kinds: dict[str, int]) -> None:
        """Say what the compiled step needs, before any weight is made."""
        parts = ", ".join(f"{name} {size / 2**20:,.0f} MiB" for name, size in kinds.items())
        total = sum(kinds.values()) / 2**20
        logging.info("memory a device: %s; %.0f MiB in all (%s)", parts, total, self._devices)
        if self._main:
            (self._workdir / "memory.json").write_text(json.dumps(kinds))

    @contextlib.contextmanager
    def shortage(self, kinds: dict[str, int]) -> Iterator[None]:
        """Where a device's memory runs out, say what a step needs of it.

        Args:
          kinds: as for `memory`.

        Raises:
          MemoryError: in place of the device's own error; lists the kinds and what needs less.
        """
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            stats = jax.local_devices()[0].memory_stats() or {}
            total = {"in all": sum(kinds.values())}
            if "bytes_limit" in stats:
                total["of"] = stats["bytes_limit"]
            table = (f"  {kind:<18}{n / 2**30:9.2f} GiB" for kind, n in (kinds | total).items())
            raise MemoryError(
                "\n".join(
                    [
                        str(error).splitlines()[0],
                        f"a step needs on each device ({self._devices}), as compiled:",
                        *table,
                        "temporaries (gradients and activations) shrink with a larger"
                        " config.optim.accumulation, a smaller config.data.global_rows or"
                        " config.model.remat=full; parameters and moments with a larger"
                        " config.mesh.fsdp",
                    ]
                )
            ) from error

    def begin(self, first: int, stream: Any, timer: Timer) -> None:
        """Open the logs at step `first`; what was logged from there on is dropped."""
        self._stream, self._timer, self._clock = stream, timer, time.perf_counter()
        if self._main:
            self._writer = MetricWriter(self._workdir, first)
            self._progress = Progress(self._config.optim.steps, initial=first)

    def step(self, step: int, metrics: dict[str, Any]) -> None:
        """Take one step's metrics, still on the devices, and log those of the step before."""
        self.flush()
        self._pending = (step, metrics)

    def flush(self) -> None:
        """Log what was taken last; waits for it to leave the devices. To be called before a
        checkpoint is written: a run that resumes there must find every earlier step in its log.

        Raises:
          BadSteps: as many steps in a row were skipped as are allowed.
        """
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._write(*pending)

    def _write(self, step: int, metrics: dict[str, Any]) -> None:
        """Every process judges the step, the first one writes it down.

        Raises:
          BadSteps: as many steps in a row were skipped as are allowed.
        """
        values = jax.device_get(metrics)
        now = time.perf_counter()
        seconds, self._clock = now - self._clock, now
        sums = {name: values.pop(name) for name in ("loss_sum", "labelled")}
        verdict = int(values.pop("verdict"))
        losses = losses_by_group(sums, self._sources, "loss")
        by_source = {s.name: losses.get(f"loss/{s.name}", math.nan) for s in self._sources}
        scalars = {name: float(value) for name, value in values.items()}
        if verdict != guard.APPLIED:
            reason = guard.REASONS[verdict]
            scalars[f"skipped_step/{reason}"] = 1.0
            self.events.write("skipped step", step, reason=reason)
            logging.warning("step %d was skipped: %s, loss %.4g", step, reason, scalars["loss"])
        if self._main:
            self._line(step, scalars, sums, losses, seconds)
        self.skipped.see(step, verdict, by_source)

    def _line(
        self,
        step: int,
        scalars: dict[str, float],
        sums: dict[str, np.ndarray],
        losses: dict[str, float],
        seconds: float,
    ) -> None:
        vit_rate = scalars["lr"] * self._config.optim.vit_layer_decay ** (
            self._config.model.vit.layers + 1
        )
        scalars |= losses | {
            "loss": scalars["loss"],
            "padding": 1 - scalars["tokens"] / self._positions,
        }
        if self._slots:
            scalars["slots_empty"] = 1 - scalars["images"] / self._slots
        scalars["lr/vit_first"] = vit_rate
        scalars["flops"] = self._ideal_flops(scalars, sums)
        speed = {
            "seconds": seconds,
            "tokens_per_second": scalars["tokens"] / seconds,
            "images_per_second": scalars["images"] / seconds,
        }
        if self._peak:
            speed["mfu"] = scalars["flops"] / seconds / self._peak
        self._writer.write(step, scalars | self._stream.metrics() | speed | self._timer.shares())
        self._progress.update(step + 1, scalars | speed)

    def _ideal_flops(self, scalars: dict[str, float], sums: dict[str, np.ndarray]) -> float:
        return flops.ideal_step_flops(
            self._config.model,
            self._trained(),
            images=scalars["images"],
            tokens=scalars["tokens"],
            labelled=float(np.sum(sums["labelled"])),
            context=scalars["tokens"] / max(scalars["samples"], 1) / 2,
        )

    def _trained(self) -> set[str]:
        pattern = self._config.optim
        probes = {
            "vit": "vit/patch/kernel",
            "adapter": "adapter/proj/kernel",
            "decoder": "decoder/embedding",
        }
        return {tower for tower, path in probes.items() if pattern.is_trainable(path)}

    def evaluation(
        self, step: int, sums: list[dict[str, np.ndarray]], scores: dict[str, float]
    ) -> dict[str, float]:
        """Log held-out losses and scores after `step` steps; returns the losses by name."""
        losses: dict[str, float] = {}
        if sums:
            total = {k: sum(np.asarray(s[k], float) for s in sums) for k in sums[0]}
            losses = losses_by_group(total, self._sources, "heldout")
            shown = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
            logging.info("step %d: %s", step, shown)
        if self._main and (losses or scores):
            self._writer.write(step, losses | scores)
        return losses

    def close(self) -> None:
        """Finish the logs and draw the curves."""
        if self._writer is None:
            return
        self._progress.close()
        self._writer.close()
        try:
            with room.writing("loss.png", self._workdir, 100_000):
                plot_losses(self._workdir / "metrics.jsonl", self._workdir / "loss.png")
        except room.CannotWrite as error:  # must not hide what ends the run
            logging.error("%s", error)
        shares = {name.split("/")[1]: share for name, share in self._timer.shares().items()}
        useful = shares.pop("step", 0.0)
        rest = "".join(f", {name} {share:.1%}" for name, share in shares.items())
        logging.info(
            "wall time %.0f s: steps %.1f%%%s; steps done again: %d, of %.0f s",
            self._timer.elapsed(),
            100 * useful,
            rest,
            self._writer.lost,
            self._writer.lost_seconds,
        )
