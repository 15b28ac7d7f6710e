"""Skipped steps as the host sees them: how many in a row, and the message that ends a run."""

from pathlib import Path
from typing import NamedTuple

from qwenvl_jax.checkpoint import intact
from qwenvl_jax.endings import Ending
from qwenvl_jax.train.guard import APPLIED, NOT_FINITE, REASONS


class Skipped(NamedTuple):
    step: int  # its index: the first step of a run is 0
    reason: str  # of guard.REASONS
    losses: dict[str, float]  # nats a labelled token, by source


class BadSteps(Ending):
    """The steps of `row` were skipped, one after the other."""

    def __init__(self, workdir: Path, row: list[Skipped], most: int):
        super().__init__(workdir, row, most)
        self._workdir, self._row, self._most = workdir, row, most

    def __str__(self) -> str:
        row, first = self._row, self._row[0].step
        names = [skipped.reason for skipped in row]
        counts = ", ".join(f"{r} {names.count(r)}" for r in REASONS if r in names)
        steps = f"step {first}" if len(row) == 1 else f"steps {first} to {row[-1].step}"
        kept = intact.newest_good(self._workdir, verify=False)
        newest = "none" if kept is None else f"step {kept}"
        lines = [
            f"{steps} were skipped, {len(row)} in a row ({counts});"
            f" config.optim.max_bad_steps={self._most}"
        ]
        for skipped in (row[:1] + row[-1:])[: len(row)]:
            losses = ", ".join(f"{name} {loss:.4g}" for name, loss in skipped.losses.items())
            lines.append(f"  losses at step {skipped.step}: {losses}")
        return "\n".join(
            [
                *lines,
                f"  newest good checkpoint: {newest} of {self._workdir}",
                f"  the batch: python launch/batch.py --workdir={self._workdir} --step={first}",
                "  to go on without it: --config.resume.step=STEP --config.resume.skip_batches=K",
            ]
        )


class SkippedRow:
    """The skipped steps since the last one that was applied."""

    def __init__(self, workdir: Path, most: int):
        self._workdir, self._most = workdir, most
        self._row: list[Skipped] = []

    def see(self, step: int, verdict: int, losses: dict[str, float]) -> str | None:
        """Take a step's verdict; returns its reason, None where it was applied.

        Raises:
          BadSteps: it is the last of as many in a row as are allowed.
        """
        if verdict == APPLIED:
            self._row = []
            return None
        reason = REASONS[verdict]
        self._row.append(Skipped(step, reason, losses))
        if len(self._row) >= self._most:
            raise self.error()
        return reason

    def __bool__(self) -> bool:
        return bool(self._row)

    @property
    def not_finite(self) -> bool:
        """Whether a step of the row was not finite."""
        return any(skipped.reason in NOT_FINITE for skipped in self._row)

    def error(self) -> BadSteps:
        return BadSteps(self._workdir, self._row, self._most)
