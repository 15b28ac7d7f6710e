"""Profiles of a run, taken when someone asks: `touch WORKDIR/profile`."""

from pathlib import Path
from typing import Any

import jax
from absl import logging

STEPS = 5  # in a capture: enough to see a pattern, few enough to open quickly


class Profiles:
    """Captures the `STEPS` steps that follow a touch of the file `profile` in the work directory.

    A capture lies under the folder `profiles`, which `xprof` and TensorBoard read, one trace a
    process. The file is never removed, as every process of a job must see it: each touch asks anew,
    and what was asked before this process started, or during a capture, is not done.
    """

    def __init__(self, workdir: Path):
        self._request, self._folder = workdir / "profile", workdir / "profiles"
        self._seen = self._touched()
        self._last: int | None = None  # of the capture that runs

    def _touched(self) -> int | None:
        """When the file was last touched, None where there is none."""
        try:
            return self._request.stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def after(self, step: int, metrics: dict[str, Any]) -> None:
        """Start or end a capture; called when step `step` was dispatched, with what it returns.

        Waits for the devices only where a capture starts or ends, so that it holds whole steps.
        """
        if self._last is not None:
            if step == self._last:
                jax.block_until_ready(metrics)
                self.close()
            return
        touched = self._touched()
        if touched is None or touched == self._seen:
            return
        jax.block_until_ready(metrics)
        jax.profiler.start_trace(self._folder)
        self._last = step + STEPS
        logging.info("profile of steps %d to %d goes to %s", step + 1, self._last, self._folder)

    def close(self) -> None:
        """End a capture that still runs, keeping what it has."""
        if self._last is not None:
            jax.profiler.stop_trace()
            self._last, self._seen = None, self._touched()
