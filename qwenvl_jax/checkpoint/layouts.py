"""How a tensor's entries are arranged in a released file and in our trees."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp


class Layout(NamedTuple):
    """How one tensor's entries are arranged; `load` gets the shape to reach, `save` needs none."""

    load: Callable[[Any, tuple[int, ...]], Any]
    save: Callable[[Any], Any]


def _linear(input_dims: int) -> Layout:
    """torch's (out, in) <-> our (in.., out..), whose first `input_dims` dims are the input."""
    return Layout(
        lambda x, shape: x.T.reshape(shape),
        lambda x: x.reshape(math.prod(x.shape[:input_dims]), -1).T,
    )


SAME = Layout(lambda x, shape: x.reshape(shape), lambda x: x)
FLAT = Layout(lambda x, shape: x.reshape(shape), lambda x: x.reshape(-1))
LINEAR = _linear(1)
LINEAR_FROM_HEADS = _linear(2)
CONVOLUTION = Layout(
    lambda x, shape: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)
)  # (D, 3, p, p) <-> (p, p, 3, D)
# OpenCLIP's position table begins with its class token's, which this model does not have.
WITHOUT_FIRST = Layout(lambda x, shape: x[1:], lambda x: jnp.pad(x, ((1, 0), (0, 0))))
# The released vision tower fuses q, k, v head by head: rows (N, 3, H). OpenCLIP's (3, N, H) is
# LINEAR and FLAT.
PER_HEAD = Layout(
    lambda x, shape: x.reshape(shape[2], 3, shape[3], shape[0]).transpose(3, 1, 0, 2),
    lambda x: x.transpose(2, 1, 3, 0).reshape(-1, x.shape[0]),
)
PER_HEAD_BIAS = Layout(
    lambda x, shape: x.reshape(shape[1], 3, shape[2]).transpose(1, 0, 2),
    lambda x: x.transpose(1, 0, 2).reshape(-1),
)
