"""ANLS, the score of DocVQA: how close an answer's spelling comes to the nearest reference."""

from collections.abc import Sequence

NORMALISER = "distance: lower case, white space folded; length: text as it stands"


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance: insertions, deletions, substitutions."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            best = min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
            diagonal, row[j] = row[j], best
    return row[-1]


def anls(prediction: str, *, answers: Sequence[str], threshold: float = 0.5) -> float:
    """1 - the smallest normalised distance to a reference; 0 where that is below `threshold`."""
    best = 0.0
    for answer in answers:
        length = max(len(prediction), len(answer))
        distance = edit_distance(_fold(prediction), _fold(answer))
        best = max(best, 1 - distance / length if length else 1.0)
    return best if best >= threshold else 0.0


def _fold(text: str) -> str:
    return " ".join(text.lower().split())
