"""Checkpoints of a work directory, on Orbax.

    workdir/checkpoints/120/params       the trainable parameters
                            optimizer    moments and counts
                            meta         step, data iterator, config, the frozen weights' hash
                            MANIFEST.json
    workdir/frozen/6f0c../               the frozen parameters, once for all steps, named by their
                                         content hash

Saving is asynchronous; a step appears at once, with its manifest, or not at all. Orbax restores a
flipped bit without a word, so restore compares files with the manifest, and a damaged step gives
way to the newest intact one.
"""

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import intact, manifest, orbax_writer, resized
from qwenvl_jax.checkpoint.fingerprint import fingerprint
from qwenvl_jax.checkpoint.hash_ahead import HashAhead
from qwenvl_jax.checkpoint.resized import ResizeQueries


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """How often and how many. Steps are optimiser steps."""

    every: int = 1000
    keep: int = 3
    verify: bool = True  # compare a checkpoint's files with its manifest before they are read

    def __post_init__(self):
        for name in ("every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"config.checkpoint.{name} must be at least 1")


class Restored(NamedTuple):
    step: int
    params: trees.Tree
    opt_state: Any
    frozen: trees.Tree
    data: np.ndarray  # int64, a row per virtual shard
    extra: dict[str, Any]  # what was saved beside them as plain data


def _shards(tree: trees.Tree, shardings: trees.Tree) -> trees.Tree:
    """Shapes + shardings -> what Orbax restores each host's shards into."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings
    )


def _by_path(tree: trees.Tree) -> dict:
    """Any pytree as nested dicts of its paths, so that what is on disk knows no Optax class."""
    return trees.unflatten(trees.flatten(tree))


def _all_hosts(data: np.ndarray) -> np.ndarray:
    """Each virtual shard's state from a host that runs it; the others say -1, below any state's
    entry. States travel as 32-bit words: JAX would cut an int64.
    """
    if jax.process_count() == 1:
        return data
    words = np.ascontiguousarray(data).view(np.uint32)
    return np.asarray(multihost_utils.process_allgather(words)).view(np.int64).max(axis=0)


class Checkpoints:
    """Saves and restores one work directory."""

    def __init__(self, workdir: str | Path, config: CheckpointConfig, run_config: dict):
        self._root = Path(workdir).absolute()
        self._run_config = run_config
        self._verify = config.verify
        self._ahead: HashAhead | None = None
        self._saving: int | None = None
        self._frozen_hash: str | None = None
        if jax.process_index() == 0:
            self._remove_leftovers()
        multihost_utils.sync_global_devices("checkpoint leftovers removed")
        self._manager = ocp.CheckpointManager(
            self._root / "checkpoints",
            options=ocp.CheckpointManagerOptions(
                max_to_keep=config.keep,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._list_files),
            ),
            item_handlers={
                "params": orbax_writer.handler(),
                "optimizer": orbax_writer.handler(),
                "meta": ocp.JsonCheckpointHandler(),
            },
        )

    def _remove_leftovers(self) -> None:
        """A save that was killed leaves a temporary folder that Orbax never removes."""
        for folder in (self._root / "checkpoints", self._root / "frozen"):
            for leftover in folder.glob("*.orbax-checkpoint-tmp*"):
                logging.warning("removing an unfinished save: %s", leftover)
                shutil.rmtree(leftover)

    def _list_files(self) -> None:
        """Write the manifest of the step being saved; Orbax calls this before it renames it."""
        (folder,) = (self._root / "checkpoints").glob(f"{self._saving}.orbax-checkpoint-tmp*")
        manifest.write(folder, known=self._stop_hashing())

    def _start_hashing(self, folder: str, pattern: str) -> None:
        """Of this process's own data: over a network, another's file looks finished too early."""
        self._stop_hashing()  # that of a save that failed
        if jax.process_index() == 0:
            files = f"{pattern}/{orbax_writer.own_files()}"
            self._ahead = HashAhead(self._root / folder, files)

    def _stop_hashing(self) -> dict[manifest.State, str]:
        ahead, self._ahead = self._ahead, None
        return ahead.stop() if ahead else {}

    def latest_step(self) -> int | None:
        """The newest whole step on disk."""
        return self._manager.latest_step()

    def newest_extra(self) -> dict[str, Any]:
        """The `extra` of the newest intact step."""
        step = intact.newest(self._root, verify=self._verify)
        where = self._root / "checkpoints" / str(step)
        return json.loads((where / "meta" / "metadata").read_text("utf-8")).get("extra", {})

    def save(
        self,
        step: int,
        *,
        params: trees.Tree,
        opt_state: Any,
        frozen: trees.Tree,
        data: np.ndarray,
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Start an asynchronous save; arrays are copied off the devices before this returns.

        Args:
          data: (virtual shards, state) int64, -1 in the rows of shards that other hosts run.
        """
        self._save_frozen(frozen)
        opt_state = _by_path(opt_state)
        meta = {
            "step": step,
            "frozen": self._frozen_hash,
            "data": _all_hosts(data).tolist(),
            "config": self._run_config,
            "extra": extra or {},
        }
        self._manager.wait_until_finished()
        self._saving = step
        self._start_hashing("checkpoints", f"{step}.orbax-checkpoint-tmp*/*")
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=orbax_writer.save_args(params),
                optimizer=orbax_writer.save_args(opt_state),
                meta=ocp.args.JsonSave(meta),
            ),
        )

    def _save_frozen(self, frozen: trees.Tree) -> None:
        if self._frozen_hash is not None:
            return
        if not frozen:
            self._frozen_hash = ""
            return
        self._frozen_hash = fingerprint(frozen)
        folder = self._root / "frozen" / self._frozen_hash
        if not (folder / manifest.NAME).exists():
            self._start_hashing("frozen", f"{self._frozen_hash}*")
            with ocp.Checkpointer(orbax_writer.handler()) as checkpointer:
                checkpointer.save(folder, args=orbax_writer.save_args(frozen), force=True)
            if jax.process_index() == 0:
                manifest.write(folder, known=self._stop_hashing())

    def restore(
        self,
        *,
        params: trees.Tree,
        opt_state: Any,
        frozen: trees.Tree,
        shardings: tuple[trees.Tree, Any, trees.Tree],
        step: int | None = None,
    ) -> Restored:
        """The newest intact step, straight into its shards; damaged newer ones are moved aside.

        Args:
          params, opt_state, frozen: shapes (ShapeDtypeStructs) of what the config asks for.
          shardings: their shardings, in the same order.

        Raises:
          ValueError: a parameter is missing, unexpected or of another shape, or no step is intact.
        """
        if step is None:
            step = intact.newest(self._root, verify=self._verify)
        where = self._root / "checkpoints" / str(step)
        meta = json.loads((where / "meta" / "metadata").read_text("utf-8"))
        _check_shapes(where / "params", params)
        params = _load_folder(where / "params", params, shardings[0])
        flat_opt, flat_shardings = _by_path(opt_state), _by_path(shardings[1])
        leaves = trees.flatten(_load_folder(where / "optimizer", flat_opt, flat_shardings))
        if meta["frozen"]:
            frozen = _load_folder(self._root / "frozen" / meta["frozen"], frozen, shardings[2])
        self._frozen_hash = meta["frozen"]
        moments = trees.map_with_path(lambda path, _: leaves[path], opt_state)
        self._set_aside(step)
        data = np.asarray(meta["data"], np.int64)
        return Restored(step, params, moments, frozen, data, meta.get("extra", {}))

    def _set_aside(self, step: int) -> None:
        if jax.process_index() == 0:
            intact.set_aside(self._root, step)
        multihost_utils.sync_global_devices("damaged steps set aside")
        self._manager.reload()

    def close(self) -> None:
        """Wait until everything that was started is on disk."""
        try:
            self._manager.wait_until_finished()
        finally:
            self._stop_hashing()
        self._manager.close()


def load_parameters(
    workdir: str | Path,
    shapes: trees.Tree,
    shardings: trees.Tree,
    *,
    take: Callable[[str], bool] = lambda path: True,
    resize_queries: ResizeQueries = "refuse",
    verify: bool = True,
) -> trees.Tree:
    """Parameters of another run's newest intact step, trained and frozen ones together.

    Each comes in the dtype it was saved in. A position table of another size is resampled.

    Args:
      shapes, shardings: ShapeDtypeStructs of the whole model, and where its parameters are to be.
      take: which paths to read; the others may be of any shape there, and are left out.
      resize_queries: what becomes of another number of queries; `random` leaves them out.
      verify: compare files with their manifests first.

    Raises:
      ValueError: no intact checkpoint there, or parameters that do not fit `shapes`.
    """
    root = Path(workdir).absolute()
    step_dir = root / "checkpoints" / str(intact.newest(root, verify=verify))
    frozen = json.loads((step_dir / "meta" / "metadata").read_text("utf-8"))["frozen"]
    folders = [step_dir / "params", *([root / "frozen" / frozen] if frozen else [])]
    saved = [trees.partition(_metadata(folder), take)[0] for folder in folders]
    whole = functools.reduce(trees.merge, saved)
    shapes, shardings = (trees.partition(tree, take)[0] for tree in (shapes, shardings))
    stored = resized.stored_shapes(shapes, whole, resize_queries)
    trees.check_same_shapes(stored, whole, what=f"checkpoint {step_dir}")
    by_path = trees.flatten(resized.read_shardings(shapes, stored, shardings))
    merged: trees.Tree = {}
    for folder, tree in zip(folders, saved, strict=True):
        wanted = trees.map_with_path(lambda path, _: by_path[path], tree)
        merged = trees.merge(merged, _load_folder(folder, tree, wanted))
    return resized.fit(
        merged, shapes, shardings, resize_queries=resize_queries, source=str(workdir)
    )


def _metadata(folder: Path) -> trees.Tree:
    """Shapes and dtypes of a saved tree."""
    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.metadata(folder).item_metadata.tree
    return jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype), tree)


def _check_shapes(folder: Path, expected: trees.Tree) -> None:
    trees.check_same_shapes(expected, _metadata(folder), what=f"checkpoint {folder}")


def _load_folder(folder: Path, shapes: trees.Tree, shardings: trees.Tree) -> trees.Tree:
    """The parameters that `shapes` names, of all that the folder holds."""
    wanted = _shards(shapes, shardings)
    if not trees.flatten(wanted):
        return {}
    with ocp.PyTreeCheckpointer() as checkpointer:
        where = ocp.checkpoint_utils.construct_restore_args(wanted)
        restore = ocp.args.PyTreeRestore(wanted, restore_args=where, partial_restore=True)
        return checkpointer.restore(folder, args=restore)
