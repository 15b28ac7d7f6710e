"""A work directory's newest checkpoint read a parameter at a time, on the host."""

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from qwenvl_jax import settings, trees
from qwenvl_jax.checkpoint import intact, names, orbax_writer, run_config
from qwenvl_jax.model.config import ModelConfig


class Stored:
    """All parameters of a work directory, trained and frozen ones; none is in memory until read."""

    def __init__(self, workdir: str | Path):
        """Open the newest intact step.

        Raises:
          ValueError: no intact checkpoint or no config there, or parameters that do not fit the
          config.
        """
        self.workdir = Path(workdir).resolve()  # TensorStore takes no `..`
        self.step = intact.newest(self.workdir, verify=True)
        where = intact.step_folder(self.workdir, self.step)
        self._meta = intact.read_meta(self.workdir, self.step)
        self._folders = {"params": where / "params"}
        if self._meta["frozen"]:
            self._folders["frozen"] = intact.frozen_folder(self.workdir, self._meta["frozen"])
        self._trees, self._home = {}, {}
        with ocp.PyTreeCheckpointer() as checkpointer:
            for name, folder in self._folders.items():
                self._trees[name] = checkpointer.metadata(folder).item_metadata.tree
                self._home |= dict.fromkeys(trees.flatten(self._trees[name]), name)
        self.run_config = run_config.read(self.workdir, step=self.step)
        self.config = settings.build(ModelConfig, self.run_config["model"], "config.model")
        found = functools.reduce(trees.merge, self._trees.values(), {})
        trees.check_same_shapes(
            names.parameter_shapes(self.config), found, what=f"checkpoint {where}"
        )

    def leaves(self) -> trees.Tree:
        """The parameter tree with what reads each in place of arrays."""
        return trees.unflatten({path: self.leaf(path) for path in self._home})

    def leaf(self, path: str) -> "Leaf":
        """One parameter, not read yet."""
        base = {
            "driver": "file",
            "path": f"{self._folders[self._home[path]]}/",
            "file_io_mode": {"mode": "memmap"},  # no memory of this process's for what is copied on
        }
        place = {"driver": "ocdbt", "base": base, "path": path.replace("/", ".") + "/"}
        return Leaf(ts.open({"driver": "zarr", "kvstore": place}, read=True).result())


class Leaf:
    """One parameter on disk, or a layer of it, read in the dtype it was saved in.

    It stands in for an array: `np.asarray` reads all of it, a slice reads some rows, an integer
    makes a layer that is not read yet. As a matrix it can be transposed unread, as the released
    layout of most parameters is; other arrangements read it.
    """

    def __init__(self, store: ts.TensorStore, *, matrix: bool = False, swapped: bool = False):
        self._store, self._matrix, self._swapped = store, matrix, swapped
        shape = tuple(store.shape)
        if matrix:
            shape = (math.prod(shape[:-1]), shape[-1])
        self.shape = shape[::-1] if swapped else shape
        self.ndim = len(self.shape)
        self.dtype = np.dtype(store.dtype.numpy_dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        x = self._store.read().result().reshape(self.shape[::-1] if self._swapped else self.shape)
        x = x.T if self._swapped else x
        return x if dtype is None else x.astype(dtype, copy=False)

    def __getitem__(self, index: int | slice) -> "Leaf | np.ndarray":
        if isinstance(index, int):
            assert not self._matrix
            return Leaf(self._store[index])
        first, last, _ = index.indices(len(self))  # TensorStore takes no end beyond the array's
        if self._swapped:
            x = self._store[..., first:last].read().result()
            return x.reshape(-1, last - first).T
        assert not self._matrix
        return self._store[first:last].read().result()

    def reshape(self, *shape: int) -> "Leaf | np.ndarray":
        if self.ndim > 1 and shape == (math.prod(self.shape[:-1]), -1):
            return Leaf(self._store, matrix=True)
        return np.asarray(self).reshape(*shape)

    @property
    def T(self) -> "Leaf | np.ndarray":  # noqa: N802
        return Leaf(self._store, matrix=True, swapped=not self._swapped)

    def transpose(self, *dims: int) -> np.ndarray:
        return np.asarray(self).transpose(*dims)

    def chunks(self) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
        """Pieces as they lie on disk: where in the parameter each belongs, and what it is."""
        for index in orbax_writer.chunks(self._store):
            yield index, self._store[index].read().result()
