"""Batch: the one type that data, model and trainer agree on.

A row is T positions that hold several samples, each image of a sample standing as Q `<imgpad>`
tokens:

    tokens     <img> pad pad </img> a  cat <eos> | <img> pad pad </img> two dogs <eos> |  0   0
    targets     -     -   -     a  cat <eos> -   |   -    -   -    two  dogs <eos> -   |  -   -
    segments    1     1   1     1   1    1   1   |   2    2   2     2    2     2   2   |  0   0
    positions   0     1   2     3   4    5   6   |   0    1   2     3    4     5   6   |  0   0

B / G successive rows are a group and share its I image slots: the k-th `<imgpad>` of a group, row
after row, takes query k % Q of the image in slot k // Q. Nothing else ties images to text. A group
may have fewer slots than the array has for it (`config.data.slot_turns`): the last stay empty.
Letters: B rows, T positions, G groups of rows, I image slots of a group, R image side in pixels.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, UInt8

IGNORE = -100  # a target that carries no loss


def most_segments(length: int) -> int:
    """How many segments a row of so many positions has at most, padding as one of them.

    A GPU's kernel for packed rows takes a fixed number, and starts as much for a segment that is
    free as for one that is not: hence few, 16, and more only where rows are short.
    """
    return max(16, 2**13 // length)


class Batch(NamedTuple):
    tokens: Int32[np.ndarray, "B T"]  # input ids
    targets: Int32[
        np.ndarray, "B T"
    ]  # the NEXT token of the same sample, IGNORE where unsupervised
    segments: Int32[np.ndarray, "B T"]  # 1, 2, .. by sample of the row; 0 is padding
    positions: Int32[np.ndarray, "B T"]  # restart at 0 with every sample
    sources: Int32[np.ndarray, "B T"]  # index into config.data.sources (metrics only)
    images: UInt8[np.ndarray, "G I R R 3"]  # RGB, already at model size; empty slots are zero
    image_mask: Bool[np.ndarray, "G I"]  # which slots hold an image; filled from the left
