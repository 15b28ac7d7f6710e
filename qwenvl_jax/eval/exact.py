"""Exact match (GQA, AI2D, OCR-VQA, the embedded questions), and the share of words or characters
of a transcript that are right.
"""

from collections import Counter

NORMALISER = "white space folded, lower case, one final period dropped"


def normalise(text: str) -> str:
    """` A dog. ` -> `a dog`; a Chinese full stop counts as a period."""
    return " ".join(text.split()).lower().removesuffix(".").removesuffix("。").rstrip()


def exact_match(prediction: str, *, target: str) -> float:
    """1 or 0."""
    return float(normalise(prediction) == normalise(target))


def share_found(prediction: list[str], *, target: list[str]) -> float:
    """Share of the target's units (words, or characters) that the prediction holds, each counted
    as often as it stands in both; 1 for an empty target.
    """
    both = Counter(prediction) & Counter(target)
    return both.total() / len(target) if target else 1.0
