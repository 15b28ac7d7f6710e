"""What seeds allow to say about arms: intervals, and which pairs are told apart.

Runs of one seed share their data and its order, so seeds are blocks: an arm's effect is judged
beside what is left when the arms' and the seeds' means are taken out (randomised complete blocks).
Pairs are compared by Tukey's range test on that rest, which keeps the chance of any false
difference among all pairs at 5 % (Tukey 1949; Montgomery, Design and Analysis of Experiments, ch.
4).
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95


class Comparison(NamedTuple):
    """Of one figure, over the seeds that every arm has."""

    mean: dict[str, float]  # by arm
    interval: dict[str, float]  # half width of the 95 % interval over seeds; absent below two seeds
    seeds: list[int]
    same: list[tuple[str, str]]  # pairs that are not told apart; all of them below two seeds
    margin: float | None  # the least difference that would be told apart


def compare(values: Mapping[str, Mapping[int, float]]) -> Comparison:
    """
    Args:
      values: a figure by arm and seed.
    """
    arms = list(values)
    seeds = sorted(set.intersection(*(set(of) for of in values.values()))) if values else []
    table = np.array([[values[arm][seed] for seed in seeds] for arm in arms], float)
    pairs = list(itertools.combinations(arms, 2))
    mean = {arm: float(np.mean(row)) for arm, row in zip(arms, table) if seeds}
    if len(seeds) < 2:
        return Comparison(mean, {}, seeds, pairs, None)
    half = {arm: half_width(row) for arm, row in zip(arms, table)}
    if len(arms) < 2:
        return Comparison(mean, half, seeds, [], None)
    margin = tukey_margin(table)
    same = [(a, b) for a, b in pairs if not abs(mean[a] - mean[b]) > margin]
    return Comparison(mean, half, seeds, same, margin)


def half_width(values: Sequence[float] | np.ndarray) -> float:
    """Half of Student's 95 % interval of a mean."""
    n = len(values)
    return float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))


def tukey_margin(table: np.ndarray) -> float:
    """Least difference of two rows' means that is told apart.

    Args:
      table: arms x seeds, at least two of each.
    """
    arms, seeds = table.shape
    rest = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
    freedom = (arms - 1) * (seeds - 1)
    deviation = np.sqrt((rest**2).sum() / freedom)
    return float(_range_quantile(arms, freedom) * deviation / np.sqrt(seeds))


@functools.cache
def _range_quantile(arms: int, freedom: int) -> float:
    return stats.studentized_range.ppf(LEVEL, arms, freedom)  # an integral: a tenth of a second


def statement(result: Comparison) -> str:
    """In plain words, which arms are not distinguishable."""
    arms = list(result.mean)
    if len(arms) < 2:
        return "There is nothing to compare: fewer than two arms are finished with the same seeds."
    if len(result.seeds) < 2:
        return "One seed: how much of any difference is chance is not known."
    level = f"(95 % over {len(result.seeds)} seeds, all pairs together)"
    if not result.same:
        return f"Every two arms are told apart {level}."
    if len(result.same) == len(arms) * (len(arms) - 1) // 2:
        return f"No two arms are told apart {level}."
    pairs = "; ".join(f"{a} and {b}" for a, b in result.same)
    return f"Not told apart {level}: {pairs}."
