"""Image features into their places in the text: a gather within each row.

tokens   <img> pad pad </img> a <img> pad pad </img> b        Q = 2
rank       -    0   1    -    -   -    2   3    -    -        the how-manieth <imgpad> of the row
takes           slot 0                 slot 1                  rank // Q, query rank % Q
"""

import jax.numpy as jnp
from jaxtyping import Float, Int32

from qwenvl_jax.trees import Array


def splice(
    x_BTD: Float[Array, "B T D"],
    features_BIQD: Float[Array, "B I Q D"],
    tokens_BT: Int32[Array, "B T"],
    image_pad_id: int,
) -> Float[Array, "B T D"]:
    """Replace the embedding of every `<imgpad>` by its image feature.

    A row with more pads than its slots hold keeps the embedding in the surplus (the stream never
    builds one).
    """
    B, images, queries, D = features_BIQD.shape
    is_pad_BT = tokens_BT == image_pad_id
    rank_BT = jnp.cumsum(is_pad_BT, axis=1) - 1
    inside_BT = is_pad_BT & (rank_BT < images * queries)
    flat_BKD = features_BIQD.reshape(B, images * queries, D)
    index_BT = jnp.clip(rank_BT, 0, images * queries - 1)
    taken_BTD = jnp.take_along_axis(flat_BKD, index_BT[..., None], axis=1)
    return jnp.where(inside_BT[..., None], taken_BTD.astype(x_BTD.dtype), x_BTD)
