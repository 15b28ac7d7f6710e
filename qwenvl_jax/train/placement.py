"""Rows of a batch and the processes of a job: who loads which, and onto the mesh with them.

The mesh decides. Processes whose devices differ only along `tensor` hold the same rows and load
them each; the devices of a process need not hold consecutive rows.
"""

import math

import jax
import numpy as np
from jax.sharding import NamedSharding

from qwenvl_jax.batch import Batch


def _ways(sharding: NamedSharding) -> int:
    """Into how many runs of rows the mesh cuts a batch."""
    return math.prod(sharding.mesh.shape[axis] for axis in sharding.spec[0])


def _held_ways(sharding: NamedSharding) -> list[int]:
    """The runs of rows, ascending, that this process's devices hold."""
    ways = _ways(sharding)
    slices = sharding.addressable_devices_indices_map((ways,)).values()
    return sorted({way for (where,) in slices for way in range(*where.indices(ways))})


def held_shards(sharding: NamedSharding, shards: int) -> list[int]:
    """Which of the equal runs of rows that `shards` virtual shards fill this process holds.

    Raises:
      ValueError: part of a shard's rows belongs to another process.
    """
    ways = _ways(sharding)
    cells = math.lcm(ways, shards)
    held = {
        way * cells // ways + cell for way in _held_ways(sharding) for cell in range(cells // ways)
    }
    each = cells // shards
    touched = sorted({cell // each for cell in held})
    if len(touched) * each != len(held):
        raise ValueError(
            f"config.data.virtual_shards={shards} (or config.heldout.virtual_shards): a shard's"
            f" rows would lie on two processes, as config.mesh cuts a batch into {ways} runs of"
            f" rows; a multiple of {ways} works"
        )
    return touched


def put(batch: Batch, sharding: NamedSharding) -> Batch:
    """This process's rows, ascending -> the global batch on the mesh."""
    held = _held_ways(sharding)

    def place(x: np.ndarray) -> jax.Array:
        rows = len(x) // len(held)
        assert rows * len(held) == len(x), (x.shape, held)
        begin = {part * rows: i * rows for i, part in enumerate(held)}
        shape = (_ways(sharding) * rows, *x.shape[1:])

        def local(index: tuple[slice, ...]) -> np.ndarray:
            first = begin[index[0].start or 0]
            return x[first : first + rows]

        return jax.make_array_from_callback(shape, sharding, local)

    return jax.tree.map(place, batch)
