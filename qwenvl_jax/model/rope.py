"""Rotary positions of the decoder, with the two rules for prompts beyond the training length."""

import jax.numpy as jnp
from jaxtyping import Float, Int32

from qwenvl_jax.trees import Array


def ntk_alpha(length_B: Int32[Array, "B"], train_length: int) -> Float[Array, "B"]:
    """Dynamic NTK: max(2^ceil(log2(L / train_length) + 1) - 1, 1)."""
    ratio = length_B.astype(jnp.float32) / train_length
    return jnp.maximum(2.0 ** jnp.ceil(jnp.log2(ratio) + 1.0) - 1.0, 1.0)


def angles(
    positions_BT: Int32[Array, "B T"], head_width: int, base: float, alpha_B: Float[Array, "B"]
) -> tuple[Float[Array, "B T 1 H"], Float[Array, "B T 1 H"]]:
    """cos and sin for every position, float32; the base grows to base * alpha^(H / (H - 2))."""
    bases_B = base * alpha_B ** (head_width / (head_width - 2))
    exponents = jnp.arange(0, head_width, 2, dtype=jnp.float32) / head_width
    rates_BJ = 1.0 / bases_B[:, None] ** exponents
    angles_BTJ = positions_BT[..., None].astype(jnp.float32) * rates_BJ[:, None, :]
    both_BTH = jnp.concatenate([angles_BTJ, angles_BTJ], axis=-1)[:, :, None, :]
    return jnp.cos(both_BTH), jnp.sin(both_BTH)


def rotate(x_BTNH: Float[Array, "B T N H"], cos, sin) -> Float[Array, "B T N H"]:
    """Half-split rotation in float32, cast back: (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin)."""
    wide = x_BTNH.astype(jnp.float32)
    x1, x2 = jnp.split(wide, 2, axis=-1)
    turned = jnp.concatenate([-x2, x1], axis=-1)
    return (wide * cos + turned * sin).astype(x_BTNH.dtype)


def log_n(positions_BT: Int32[Array, "B T"], train_length: int) -> Float[Array, "B T 1 1"]:
    """Factor on the query at 0-based position i: log_train_length(i + 1) beyond the training
    length, else 1.
    """
    count = positions_BT.astype(jnp.float32) + 1.0
    scale = jnp.where(count > train_length, jnp.log(count) / jnp.log(float(train_length)), 1.0)
    return scale[:, :, None, None]
