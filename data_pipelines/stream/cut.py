"""Dialogues that end where the row does, as in the released fine-tuning code."""

import numpy as np
from jaxtyping import Int32

CUT = "cut_at_row"  # in Record.meta of a dialogue that may be cut


def whole_images(
    tokens: Int32[np.ndarray, " n"], seq_len: int, *, imgpad: int, num_queries: int
) -> int | None:
    """How many images the first `seq_len` of more tokens show; None if they end within one."""
    pads = int((tokens[:seq_len] == imgpad).sum())
    # A tag alone on one side of the border: the last token is an image's, or the next one is.
    if pads % num_queries or imgpad in (tokens[seq_len - 1], tokens[seq_len]):
        return None
    return pads // num_queries
