"""A work directory's newest checkpoint read a parameter at a time, on the host."""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

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

    def read(self, path: str) -> np.ndarray:
        """One parameter, in the dtype it was saved in."""
        name = self._home[path]
        tree = self._trees[name]
        item = trees.map_with_path(lambda p, _: 0 if p == path else ocp.PLACEHOLDER, tree)
        options = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        with ocp.PyTreeCheckpointer() as checkpointer:
            restored = checkpointer.restore(
                self._folders[name],
                args=ocp.args.PyTreeRestore(item=item, restore_args=options),
            )
        return trees.flatten(restored)[path]

    def leaves(self) -> trees.Tree:
        """The parameter tree with functions that read in place of arrays."""
        read: dict[str, Callable[[], np.ndarray]] = {
            path: functools.partial(self.read, path) for path in self._home
        }
        return trees.unflatten(read)
