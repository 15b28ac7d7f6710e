"""Which key a query may see, in one rule for packed rows, padding and caches.

    allowed[t, s]  =  segment of t == segment of s   and   position of s <= position of t

                    keys   1 1 1 2 2 0
    two samples   1        x . . . . .
    and padding   1        x x . . . .
                  1        x x x . . .
                  2        . . . x . .
                  2        . . . x x .
                  0        . . . . . x

A cache is the same with its free slots in segment 0.
"""

from typing import NamedTuple

from jaxtyping import Bool, Int32

from qwenvl_jax.trees import Array


class Visibility(NamedTuple):
    q_segments_BT: Int32[Array, "B T"]
    q_positions_BT: Int32[Array, "B T"]
    k_segments_BS: Int32[Array, "B S"]
    k_positions_BS: Int32[Array, "B S"]


def allowed(v: Visibility) -> Bool[Array, "B T S"]:
    """The dense mask."""
    same_BTS = v.q_segments_BT[:, :, None] == v.k_segments_BS[:, None, :]
    past_BTS = v.k_positions_BS[:, None, :] <= v.q_positions_BT[:, :, None]
    return same_BTS & past_BTS
