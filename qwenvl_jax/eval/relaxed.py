"""Relaxed accuracy, the score of ChartQA: numbers may be 5 % off, words must be the same."""

import math

NORMALISER = "numbers within 5 % of the target, a percent sign divides by 100; text in lower case"


def relaxed_accuracy(prediction: str, *, target: str, tolerance: float = 0.05) -> float:
    """1 or 0. A target of zero is compared as text: no share of zero could be off."""
    said, truth = _number(prediction), _number(target)
    if said is not None and truth:
        return float(abs(said - truth) / abs(truth) <= tolerance)
    return float(prediction.lower() == target.lower())


def _number(text: str) -> float | None:
    try:
        value = float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:  # a word
        return None
    return value if math.isfinite(value) else None
