"""How trees become Orbax folders: uncompressed, in chunks, parameters of files piece by piece.

Random-looking weights do not compress, and trying costs more than writing them. A stacked parameter
is cut into its layers: many chunks are written at once where one would be written alone, and any
layer can be read without the others. A `convert.Reader` is saved as the array that it reads,
without ever being one.
"""

import asyncio
import itertools
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from qwenvl_jax import trees
from qwenvl_jax.checkpoint.convert import Reader

_CHUNK_BYTES = 64 << 20
_AT_ONCE = 4  # chunks of readers in memory: some are read while others are written


class _ReaderHandler(ocp.type_handlers.NumpyHandler):
    """Saves readers as if they were NumPy arrays."""

    def __init__(self):
        super().__init__(deepcopy_host_arrays=False)

    async def _background_serialize(self, *args, **kwargs) -> None:
        self._turns = asyncio.Semaphore(_AT_ONCE)  # belongs to the event loop of this save
        await super()._background_serialize(*args, **kwargs)

    async def _open_and_write(self, value: Reader, tspec: dict, ts_context: ts.Context) -> None:
        store = await ts.open(ts.Spec(tspec), create=True, open=True, context=ts_context)
        chunk = store.chunk_layout.write_chunk.shape  # Orbax's divide the array
        starts = (range(0, n, step) for n, step in zip(value.shape, chunk, strict=True))
        await asyncio.gather(
            *(
                self._write(value, store, tuple(slice(i, i + n) for i, n in zip(first, chunk)))
                for first in itertools.product(*starts)
            )
        )

    async def _write(self, value: Reader, store: ts.TensorStore, index: tuple[slice, ...]) -> None:
        async with self._turns:
            piece = await asyncio.to_thread(value, index)
            await store[index].write(piece, can_reference_source_data_indefinitely=True)


def handler() -> ocp.PyTreeCheckpointHandler:
    """What writes the trees of `save_args`."""
    usual = [(kind, ocp.type_handlers.get_type_handler(kind)) for kind in (np.ndarray, jax.Array)]
    registry = ocp.type_handlers.create_type_handler_registry((Reader, _ReaderHandler()), *usual)
    return ocp.PyTreeCheckpointHandler(use_compression=False, type_handler_registry=registry)


def save_args(tree: trees.Tree) -> ocp.args.PyTreeSave:
    """A tree of arrays or readers as Orbax is to write it."""

    def cut(path: str, leaf: Any) -> ocp.SaveArgs:
        layers = (0,) if "blocks" in path.split("/") and np.ndim(leaf) else ()
        return ocp.SaveArgs(chunk_byte_size=_CHUNK_BYTES, shard_axes=layers)

    return ocp.args.PyTreeSave(tree, save_args=trees.map_with_path(cut, tree))
