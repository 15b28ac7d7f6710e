"""CIDEr-D (Vedantam et al., 2015): agreement with the references in rare n-grams."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

_SIGMA = 6.0  # width of the length penalty


def ngrams(tokens: Sequence[str], n: int) -> Counter:
    """How often each run of `n` tokens stands in the text."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def cider(
    predictions: Sequence[Sequence[str]], *, references: Sequence[Sequence[Sequence[str]]]
) -> list[float]:
    """CIDEr-D of every picture (times 10, as benchmarks print it); the score is their mean.

    Args:
      predictions: words of one caption a picture.
      references: words of every reference of every picture; they also say how rare an n-gram is.
    """
    scores = np.zeros(len(predictions))
    for n in range(1, 5):
        pictures = [[ngrams(reference, n) for reference in texts] for texts in references]
        seen_in = Counter(gram for texts in pictures for gram in set().union(*texts))

        def weigh(counts: Counter, seen_in: Counter = seen_in) -> dict[tuple, float]:
            total = math.log(len(references))
            return {g: c * (total - math.log(max(1, seen_in[g]))) for g, c in counts.items()}

        for i, (said, texts) in enumerate(zip(predictions, pictures, strict=True)):
            weights = weigh(ngrams(said, n))
            for words, counts in zip(references[i], texts):
                gap = len(said) - len(words)
                close = _cosine(weights, weigh(counts)) * math.exp(-(gap**2) / (2 * _SIGMA**2))
                scores[i] += 10 * close / len(texts) / 4
    return scores.tolist()


def _cosine(said: dict[tuple, float], truth: dict[tuple, float]) -> float:
    """Cosine in which a repeated n-gram counts no more often than in the reference."""
    dot = sum(min(said[g], truth[g]) * truth[g] for g in said.keys() & truth.keys())
    lengths = math.hypot(*said.values()) * math.hypot(*truth.values())
    return dot / lengths if lengths else 0.0
