"""Which source comes next: exact in proportion at every moment, a function of the counts so far.

Tijdeman's rule for the chairman assignment problem (Discrete Mathematics 32, 1980): of the sources
that have fallen behind enough, take the one whose turn runs out first. Then
|count - weight x total| <= 1 - 1 / (2k - 2) for each of k >= 2 sources at every moment,
so any window is exact to less than two samples a source.
"""

from collections.abc import Sequence


def next_source(counts: Sequence[int], weights: Sequence[float]) -> int:
    """The index of the next source, given how often each was taken.

    Args:
      weights: positive, summing to 1.
    """
    if len(weights) == 1:
        return 0
    slack = 1.0 / (2 * len(weights) - 2)
    total = sum(counts) + 1
    best, soonest = 0, float("inf")
    for index, (count, weight) in enumerate(zip(counts, weights, strict=True)):
        behind = weight * total - count
        if behind >= slack - 1e-9:
            deadline = (1.0 - slack - behind) / weight
            if deadline < soonest - 1e-9:
                best, soonest = index, deadline
    return best
