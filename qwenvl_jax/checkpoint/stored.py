"""A work directory's newest checkpoint read a parameter at a time, on the host."""

import functools
import json
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from qwenvl_jax import settings, trees
from qwenvl_jax.checkpoint import intact, names
from qwenvl_jax.model.config import ModelConfig


class Stored:
    """All parameters of a work directory, trained and frozen ones; none is in memory until read."""

    def __init__(self, workdir: str | Path):
        """Open the newest intact step.

        Raises:
          ValueError: no intact checkpoint or no config there, or parameters that do not fit the
          config.
        """
        self.workdir = Path(workdir).absolute()
        self.step = intact.newest(self.workdir, verify=True)
        if not (self.workdir / "config.json").is_file():
            raise ValueError(f"{self.workdir / 'config.json'} is missing")
        where = self.workdir / "checkpoints" / str(self.step)
        self._meta = json.loads((where / "meta" / "metadata").read_text("utf-8"))
        self._folders = {"params": where / "params"}
        if self._meta["frozen"]:
            self._folders["frozen"] = self.workdir / "frozen" / self._meta["frozen"]
        self._trees, self._home = {}, {}
        with ocp.PyTreeCheckpointer() as checkpointer:
            for name, folder in self._folders.items():
                self._trees[name] = checkpointer.metadata(folder).item_metadata.tree
                self._home |= dict.fromkeys(trees.flatten(self._trees[name]), name)
        self.run_config = json.loads((self.workdir / "config.json").read_text("utf-8"))
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
        name = self._home[path]
        return Leaf(self._folders[name], path, trees.flatten(self._trees[name])[path].shape)


class Leaf:
    """One parameter on disk, read in the dtype it was saved in: called for all of it, indexed for
    an entry of its leading axis, a layer.
    """

    def __init__(self, folder: Path, path: str, shape: tuple[int, ...]):
        self.shape = tuple(shape)
        self._spec = {
            "driver": "zarr",
            "kvstore": {
                "driver": "ocdbt",
                "base": {"driver": "file", "path": f"{folder}/"},
                "path": path.replace("/", ".") + "/",
            },
        }

    @functools.cached_property
    def _array(self) -> ts.TensorStore:
        return ts.open(self._spec, read=True).result()

    def __call__(self) -> np.ndarray:
        return self._array.read().result()

    def __getitem__(self, layer: int) -> np.ndarray:
        return self._array[layer].read().result()
