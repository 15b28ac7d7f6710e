"""Which mesh, number of microbatches and remat policy is best: many by sizes, a few compiled."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import tqdm

from launch.plan.estimate import Candidate, Estimate
from launch.plan.report import FITS

ROOM = 1.25  # an estimate may be so far above what fits and be tried all the same
# Meshes that split the batch in another way, all else the same, are within a percent or two of each
# other: one more of them must look so much better than what is not like any that was tried.
LIKE = 1.03

Compile = Callable[[Candidate], dict[str, Any] | str]  # a plan, or why there is none


class Tried(NamedTuple):
    candidate: Candidate
    estimate: Estimate
    plan: dict[str, Any] | None
    error: str

    @property
    def fits(self) -> bool:
        return (
            self.plan is not None and self.plan["hbm_bytes"] <= FITS * self.plan["hbm_limit_bytes"]
        )


def search(
    estimates: dict[Candidate, Estimate], compile_one: Compile, *, limit: int, at_most: int
) -> list[Tried]:
    """Compile the candidates that look fastest among those that may fit.

    What a compiled program needs corrects the estimates of the same remat policy, so that one which
    does not fit, or for which the compiler finds no room, takes those that need more along with it.
    A candidate that does not compile is told of in the result and ends nothing. One that differs
    from a tried one that fits by data and fsdp alone counts as `LIKE` times as slow for each.

    Args:
      limit: bytes of a chip.
      at_most: so many are compiled.

    Returns:
      What was tried, best first; those that do not fit or compile come last.
    """
    tried: list[Tried] = []
    off: dict[str, float] = {}  # remat -> compiled over estimated bytes
    fit: Counter[tuple] = Counter()  # of such as are alike, those that were tried and fit
    left = list(estimates)
    with tqdm.tqdm(total=at_most, desc="compiled", unit="plan") as bar:
        while len(tried) < at_most:
            room = {remat: FITS * limit / factor for remat, factor in off.items()}
            left = [c for c in left if estimates[c].hbm <= room.get(c.remat, ROOM * FITS * limit)]
            if not left:
                break
            candidate = min(left, key=lambda c: (estimates[c].rank * LIKE ** fit[_kind(c)], c))
            left.remove(candidate)
            bar.set_postfix_str(candidate.name)
            made = compile_one(candidate)
            plan, error = (None, made) if isinstance(made, str) else (made, "")
            tried.append(Tried(candidate, estimates[candidate], plan, error))
            fit[_kind(candidate)] += tried[-1].fits
            if plan:
                off[candidate.remat] = plan["hbm_bytes"] / estimates[candidate].hbm
            elif error.startswith("RESOURCE_EXHAUSTED"):  # it needs more than a chip has
                least = limit / estimates[candidate].hbm
                off[candidate.remat] = max(off.get(candidate.remat, 0.0), least)
            bar.update()
    return sorted(tried, key=_order)


def _kind(candidate: Candidate) -> tuple:
    return candidate.tensor, candidate.accumulation, candidate.remat


def _order(tried: Tried) -> tuple[bool, float]:
    return not tried.fits, tried.plan["step_seconds"] if tried.plan else float("inf")


def text(found: list[Tried], *, considered: int) -> str:
    """A table, best first."""
    lines = [
        f"{considered} candidates by their sizes, {len(found)} compiled",
        "",
        "data x fsdp x tensor  microbatches  remat   GiB (estimate)   step, s (estimate)  x ideal",
    ]
    for one in found:
        c, guess = one.candidate, one.estimate
        start = f"{c.data} x {c.fsdp} x {c.tensor}"
        start = f"{start:<21} {c.accumulation:>12}  {c.remat:<5}"
        if one.plan is None:
            lines.append(f"{start}  {one.error.splitlines()[0]}")
            continue
        size, seconds = one.plan["hbm_bytes"] / 2**30, one.plan["step_seconds"]
        ratio = one.plan["flops_hardware"] / one.plan["flops_ideal"]
        lines.append(
            f"{start} {size:6.1f} ({guess.hbm / 2**30:6.1f}) {seconds:12.2f} ({guess.seconds:6.2f})"
            f"  {ratio:7.2f}  {one.plan['bound'] if one.fits else 'DOES NOT FIT'}"
        )
    if found and found[0].fits:
        keys = " ".join(f"--config.{k}={v}" for k, v in found[0].candidate.overrides.items())
        lines += ["", f"best: {keys}"]
    else:
        lines += ["", "none of them fits: more chips, shorter rows or fewer image slots would"]
    return "\n".join(lines)


def write(found: list[Tried], out: Path) -> None:
    """`search.json`: every candidate that was tried, best first."""
    rows = [
        one.candidate._asdict()
        | {"estimate": one.estimate._asdict(), "plan": one.plan, "error": one.error}
        | {"fits": one.fits}
        for one in found
    ]
    (out / "search.json").write_text(json.dumps(rows, indent=1))
