"""Grounding accuracy: is the predicted box the right one, at IoU >= 0.5 (RefCOCO, +, g)?"""

from collections.abc import Sequence

NORMALISER = "first box of the answer, thousandths of the picture"


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1); 0 where either has no area."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inside = width * height
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return inside / (sum(areas) - inside)


def grounding_accuracy(
    found: Sequence[float] | None, *, box: Sequence[float], threshold: float = 0.5
) -> float:
    """1 where `found` overlaps `box` by at least `threshold`, else 0.

    Args:
      found: the answer's first box (`markup.first_box`); None, an answer without one, is wrong.
    """
    return float(found is not None and iou(found, box) >= threshold)
