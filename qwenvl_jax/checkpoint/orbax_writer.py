"""How trees become Orbax folders: uncompressed, in chunks, parameters of files piece by piece.

Random-looking weights do not compress, and trying costs more than writing them. A stacked parameter
is cut into its layers: many chunks are written at once where one would be written alone, and any
layer can be read without the others. Data files are small enough that one is finished, and can be
hashed, while the next is written. A `convert.Reader` is saved as the array that it reads, without
ever being one.
"""

import asyncio
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from qwenvl_jax import trees
from qwenvl_jax.checkpoint.convert import Reader

_CHUNK_BYTES = 16 << 20
_FILE_BYTES = 128 << 20
# Of readers: as many chunks as are in memory, some being read while others are written. The first
# touch of memory costs more than a copy, so their buffers are used again and again.
_BUFFERS = 16
# TensorStore keeps a very small value beside its key, and might write it again: not from a buffer
# that holds another chunk by then.
_SMALL = 1 << 16


class _ReaderHandler(ocp.type_handlers.NumpyHandler):
    """Saves readers as if they were NumPy arrays."""

    async def serialize(
        self,
        values: Sequence[Reader],
        infos: Sequence[ocp.type_handlers.ParamInfo],
        args: Sequence[ocp.SaveArgs] | None = None,
    ) -> list[ocp.future.Future]:
        args = args or [ocp.SaveArgs()] * len(values)
        written = self._write_all(values, infos, args)
        return [ocp.future.CommitFutureAwaitingContractedSignals(written, name="readers")]

    async def _write_all(
        self,
        values: Sequence[Reader],
        infos: Sequence[ocp.type_handlers.ParamInfo],
        args: Sequence[ocp.SaveArgs],
    ) -> None:
        if jax.process_index() != 0:
            return
        buffers: asyncio.Queue[np.ndarray | None] = asyncio.Queue()
        for _ in range(_BUFFERS):
            buffers.put_nowait(None)  # made when it is first needed
        stores = [await _create(*one) for one in zip(values, infos, args, strict=True)]
        pieces = ((v, s, index) for v, s in zip(values, stores) for index in chunks(s))
        await asyncio.gather(*(_write(buffers, *piece) for piece in pieces))


async def _create(
    value: Reader, info: ocp.type_handlers.ParamInfo, arg: ocp.SaveArgs
) -> ts.TensorStore:
    await info.await_path_creation()
    spec = ocp.type_handlers.get_json_tspec_write(
        info,
        use_ocdbt=info.is_ocdbt_checkpoint,
        global_shape=value.shape,
        local_shape=value.shape,
        dtype=value.dtype,
        process_index=0,
        arg=arg,
    )
    return await ts.open(ts.Spec(spec), create=True, open=True, context=info.ts_context)


def chunks(store: ts.TensorStore) -> list[tuple[slice, ...]]:
    """Where each chunk lies, in order."""
    sizes = store.chunk_layout.write_chunk.shape
    starts = (range(0, n, step) for n, step in zip(store.shape, sizes, strict=True))
    return [
        tuple(slice(i, min(i + step, n)) for i, step, n in zip(first, sizes, store.shape))
        for first in itertools.product(*starts)
    ]


async def _write(
    buffers: asyncio.Queue, value: Reader, store: ts.TensorStore, index: tuple[slice, ...]
) -> None:
    sizes = [s.stop - s.start for s in index]
    size = math.prod(sizes) * value.dtype.itemsize
    buffer = await buffers.get()
    try:
        if size < _SMALL:
            piece = np.empty(sizes, value.dtype)
        else:
            if buffer is None or buffer.size < size:
                buffer = np.empty(size, np.uint8)
            piece = buffer[:size].view(value.dtype).reshape(sizes)
        await asyncio.to_thread(value.fill, piece, index)
        await store[index].write(piece, can_reference_source_data_indefinitely=True)
    finally:
        buffers.put_nowait(buffer)


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

    return ocp.args.PyTreeSave(
        tree,
        save_args=trees.map_with_path(cut, tree),
        ocdbt_target_data_file_size=_FILE_BYTES,
    )


def own_files() -> str:
    """Where this process's data is in such a folder, as in `Path.glob`."""
    return f"ocdbt.process_{jax.process_index()}/d/*"
