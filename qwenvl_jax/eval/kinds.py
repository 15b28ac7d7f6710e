"""Which object kinds a caption names, and how many of those in the picture.

Names are matched longest first and each character counts once, so that `hot dog` does not also name
a `dog`. English names match whole words, with a plural s or es; Chinese has no word boundaries.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple


class KindScores(NamedTuple):
    """Shares in [0, 1] over all pictures."""

    named: float  # kinds in the picture that the caption names (recall)
    correct: float  # kinds the caption names that are in the picture (precision)


def mentioned(caption: str, vocabulary: Sequence[str], language: str) -> set[str]:
    """The kinds of `vocabulary` that the caption names."""
    names = sorted(vocabulary, key=len, reverse=True)
    alternatives = "|".join(re.escape(name) for name in names)
    pattern = rf"\b({alternatives})(?:e?s)?\b" if language == "en" else f"({alternatives})"
    flags = re.IGNORECASE if language == "en" else 0
    by_lower = {name.lower(): name for name in vocabulary}
    return {by_lower[found.lower()] for found in re.findall(pattern, caption, flags)}


def score(
    captions: Sequence[str],
    kinds: Sequence[Sequence[str]],
    vocabulary: Sequence[str],
    language: str,
) -> KindScores:
    """Score one caption per picture against the kinds in it."""
    there = hits = said = 0
    for caption, truth in zip(captions, kinds, strict=True):
        names = mentioned(caption, vocabulary, language)
        hits += len(names & set(truth))
        there += len(set(truth))
        said += len(names)
    return KindScores(hits / max(there, 1), hits / max(said, 1))
