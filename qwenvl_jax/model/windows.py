"""Attention within square windows of an image's patches (the paper's ablation of global attention).

patches  0  1 | 2  3        windows of 2 x 2, each as an image of its own:
         4  5 | 6  7        0 1 4 5 | 2 3 6 7 | 8 9 12 13 | 10 11 14 15
        -------------
         8  9 | 10 11
        12 13 | 14 15
"""

import math

import numpy as np
from jaxtyping import Bool, Shaped

from qwenvl_jax.model.config import VitConfig
from qwenvl_jax.trees import Array

GLOBAL_EVERY = 4  # of so many layers the last one sees the whole image


def global_layers(vit: VitConfig) -> Bool[np.ndarray, " L"] | None:
    """Which layers see the whole image; None: all of them, as no window is configured."""
    if not vit.window:
        return None
    return np.arange(1, vit.layers + 1) % GLOBAL_EVERY == 0


def mean_context(vit: VitConfig) -> float:
    """How many patches a patch attends to, on average over the layers."""
    patches = (vit.image_size // vit.patch_size) ** 2
    sees_all = global_layers(vit)
    if sees_all is None:
        return float(patches)
    share = float(sees_all.mean())
    return share * patches + (1 - share) * (vit.window // vit.patch_size) ** 2


def split(x_MPNH: Shaped[Array, "M P N H"], side: int) -> Shaped[Array, "K W N H"]:
    """Row-major patches of M square images -> W = side^2 patches of each of their K windows.

    Raises:
      ValueError: windows of `side` patches do not tile the image.
    """
    M, P, N, H = x_MPNH.shape
    grid = math.isqrt(P)
    if grid % side:
        raise ValueError(
            f"config.model.vit.window: windows of {side} patches do not tile {grid} x {grid}"
        )
    x = x_MPNH.reshape(M, grid // side, side, grid // side, side, N, H)
    return x.swapaxes(2, 3).reshape(-1, side**2, N, H)


def join(x_KWNH: Shaped[Array, "K W N H"], patches: int) -> Shaped[Array, "M P N H"]:
    """The inverse of `split`, to images of so many patches."""
    _, W, N, H = x_KWNH.shape
    side, grid = math.isqrt(W), math.isqrt(patches)
    x = x_KWNH.reshape(-1, grid // side, grid // side, side, side, N, H)
    return x.swapaxes(2, 3).reshape(-1, patches, N, H)
