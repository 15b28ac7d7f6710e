"""BLEU of a corpus (Papineni et al., 2002), with the length of the closest reference."""

import math
from collections import Counter
from collections.abc import Sequence

from qwenvl_jax.eval.cider import ngrams


def bleu(
    predictions: Sequence[Sequence[str]],
    *,
    references: Sequence[Sequence[Sequence[str]]],
    order: int = 4,
) -> float:
    """Geometric mean of the clipped n-gram precisions up to `order`, times the brevity penalty."""
    hits, said = [0] * order, [0] * order
    length = wanted = 0
    for tokens, texts in zip(predictions, references, strict=True):
        length += len(tokens)
        wanted += min((abs(len(text) - len(tokens)), len(text)) for text in texts)[1]
        for n in range(order):
            counts, most = ngrams(tokens, n + 1), Counter()
            for text in texts:
                most |= ngrams(text, n + 1)
            hits[n] += (counts & most).total()
            said[n] += counts.total()
    if not all(hits):
        return 0.0
    mean = math.exp(sum(math.log(h / s) for h, s in zip(hits, said)) / order)
    return mean * min(1.0, math.exp(1 - wanted / length))
