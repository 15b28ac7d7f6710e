"""Grounding accuracy: is the first predicted box the right one, at IoU >= 0.5 (RefCOCO, +, g)?"""

from collections.abc import Sequence

from qwenvl_jax.text.markup import parse_marked

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


def first_box(answer: str) -> tuple[float, ...] | None:
    """The first box of generated markup as fractions of the picture; None if there is none, or the
    markup is broken: such an answer is wrong, not an error.
    """
    try:
        _, marked = parse_marked(answer)
    except ValueError:
        return None
    boxes = [box for entry in marked for box in entry.boxes]
    return boxes[0] if boxes else None


def grounding_accuracy(answer: str, *, box: Sequence[float], threshold: float = 0.5) -> float:
    """1 where the answer's first box overlaps `box` (fractions) by at least `threshold`, else 0."""
    found = first_box(answer)
    return float(found is not None and iou(found, box) >= threshold)
