"""Checkpoints of a work directory, on Orbax.

    workdir/checkpoints/120/params       the trainable parameters
                            optimizer    moments and counts
                            meta         step, data iterator, config, and the content hashes of all
                            that belongs to it
                            MANIFEST.json    sha256 of each of these files
    workdir/frozen/6f0c../               the frozen parameters, once for all steps, named by their
    content hash
    workdir/checkpoints-damaged/         steps that were found damaged, moved out of the way

Saving is asynchronous; a step's manifest is written when the next save or the end waits for it.
Orbax restores a flipped bit without a word, so restoring compares files and content hashes, and a
damaged step gives way to the newest intact one.
"""

import dataclasses
import functools
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import folder as folders
from qwenvl_jax.checkpoint import intact, manifest, resized
from qwenvl_jax.checkpoint.fingerprint import fingerprint
from qwenvl_jax.checkpoint.resized import ResizeQueries


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """How often and how many. Steps are optimiser steps."""

    every: int = 1000
    keep: int = 3
    verify: bool = True  # compare what is restored with its manifest and content hashes

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


def _by_path(tree: trees.Tree) -> dict:
    """Any pytree as nested dicts of its paths, so that what is on disk knows no Optax class."""
    return trees.unflatten(trees.flatten(tree))


def _all_hosts(data: np.ndarray) -> np.ndarray:
    """Rows of all hosts, in their order. They travel as 32-bit words: JAX would cut an int64."""
    if jax.process_count() == 1:
        return data
    words = np.ascontiguousarray(data).view(np.uint32)
    return multihost_utils.process_allgather(words, tiled=True).view(np.int64)


class Checkpoints:
    """Saves and restores one work directory."""

    def __init__(self, workdir: str | Path, config: CheckpointConfig, run_config: dict):
        self._root = Path(workdir).absolute()
        self._run_config = run_config
        self._verify = config.verify
        self._unlisted: int | None = None  # the step that was saved and has no manifest yet
        self._frozen_hash: str | None = None
        if jax.process_index() == 0:
            self._remove_leftovers()
        multihost_utils.sync_global_devices("checkpoint leftovers removed")
        self._manager = ocp.CheckpointManager(
            self._root / "checkpoints",
            options=ocp.CheckpointManagerOptions(max_to_keep=config.keep),
            item_handlers={
                "params": ocp.StandardCheckpointHandler(),
                "optimizer": ocp.StandardCheckpointHandler(),
                "meta": ocp.JsonCheckpointHandler(),
            },
        )

    def _remove_leftovers(self) -> None:
        """A save that was killed leaves a temporary folder that Orbax never removes."""
        for folder in (self._root / "checkpoints", self._root / "frozen"):
            for leftover in folder.glob("*.orbax-checkpoint-tmp*"):
                logging.warning("removing an unfinished save: %s", leftover)
                shutil.rmtree(leftover)

    def latest_step(self) -> int | None:
        """The newest whole step on disk."""
        return self._manager.latest_step()

    def save(
        self,
        step: int,
        *,
        params: trees.Tree,
        opt_state: Any,
        frozen: trees.Tree,
        data: np.ndarray,
    ) -> None:
        """Start an asynchronous save; arrays are copied off the devices before this returns.

        Args:
          data: (virtual shards of this host, state) int64; the hosts' rows are put together.
        """
        self._write_manifest()
        self._save_frozen(frozen)
        opt_state = _by_path(opt_state)
        meta = {
            "step": step,
            "params": fingerprint(params),
            "optimizer": fingerprint(opt_state),
            "frozen": self._frozen_hash,
            "data": _all_hosts(data).tolist(),
            "config": self._run_config,
        }
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(params),
                optimizer=ocp.args.StandardSave(opt_state),
                meta=ocp.args.JsonSave(meta),
            ),
        )
        self._unlisted = step

    def _write_manifest(self) -> None:
        """List the files of the last save, which are whole once it has ended."""
        self._manager.wait_until_finished()
        if self._unlisted is not None and jax.process_index() == 0:
            manifest.write(self._root / "checkpoints" / str(self._unlisted))
        self._unlisted = None

    def _save_frozen(self, frozen: trees.Tree) -> None:
        if self._frozen_hash is not None:
            return
        if not frozen:
            self._frozen_hash = ""
            return
        self._frozen_hash = fingerprint(frozen)
        folder = self._root / "frozen" / self._frozen_hash
        if not folder.exists():
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(folder, frozen)
            if jax.process_index() == 0:
                manifest.write(folder)

    def restore(
        self,
        *,
        params: trees.Tree,
        opt_state: Any,
        frozen: trees.Tree,
        shardings: tuple[trees.Tree, Any, trees.Tree],
    ) -> Restored:
        """The newest intact step, straight into its shards; newer ones are moved aside.

        Args:
          params, opt_state, frozen: shapes (ShapeDtypeStructs) of what the config asks for.
          shardings: their shardings, in the same order.

        Raises:
          ValueError: a parameter is missing, unexpected or of another shape, or no step is intact.
        """
        wanted = {"params": params, "optimizer": _by_path(opt_state), "frozen": frozen}
        where = dict(zip(wanted, (shardings[0], _by_path(shardings[1]), shardings[2])))
        step, meta, loaded = intact.restore_newest(
            self._root, lambda step: self._read(step, wanted, where), verify=self._verify
        )
        if jax.process_index() == 0:
            intact.set_aside(self._root, step)
        multihost_utils.sync_global_devices("damaged steps set aside")
        self._manager.reload()
        self._frozen_hash = meta["frozen"]
        leaves = trees.flatten(loaded["optimizer"])
        moments = trees.map_with_path(lambda path, _: leaves[path], opt_state)
        data = np.asarray(meta["data"], np.int64)
        return Restored(step, loaded["params"], moments, loaded["frozen"], data)

    def _read(
        self, step: int, wanted: dict[str, trees.Tree], where: dict[str, trees.Tree]
    ) -> tuple[int, dict[str, Any], dict[str, trees.Tree]]:
        """A step's number, its meta and its trees by name, or Damaged."""
        meta, homes = _homes(self._root, step, ("params", "optimizer"))
        loaded = {"frozen": wanted["frozen"]}
        for name, home in homes.items():
            folders.check_shapes(home, wanted[name])
            loaded[name] = folders.load(home, wanted[name], where[name])
            if self._verify:
                folders.verify(home, loaded[name], meta[name])
        return step, meta, loaded

    def close(self) -> None:
        """Wait until everything that was started is on disk."""
        self._write_manifest()
        self._manager.close()


def load_parameters(
    workdir: str | Path,
    shapes: trees.Tree,
    shardings: trees.Tree,
    *,
    resize_queries: ResizeQueries = "refuse",
) -> trees.Tree:
    """All parameters of another run's newest intact step, trained and frozen ones together.

    Each comes in the dtype it was saved in. A position table of another size is resampled.

    Args:
      shapes, shardings: ShapeDtypeStructs of what is asked for, and where it is to be.
      resize_queries: what becomes of another number of queries; `random` leaves them out.

    Raises:
      ValueError: no intact checkpoint there, or parameters that do not fit `shapes`.
    """
    root = Path(workdir).absolute()
    if not intact.steps(root):
        raise ValueError(f"config.init.checkpoint: no checkpoint under {root}")

    def read(step: int) -> trees.Tree:
        meta, homes = _homes(root, step, ("params",))
        saved = {name: folders.shapes(home) for name, home in homes.items()}
        whole = functools.reduce(trees.merge, saved.values(), {})
        stored = resized.stored_shapes(shapes, whole, resize_queries)
        trees.check_same_shapes(stored, whole, what=f"checkpoint {root}, step {step}")
        by_path = trees.flatten(resized.read_shardings(shapes, stored, shardings))
        merged: trees.Tree = {}
        for name, home in homes.items():
            wanted = trees.map_with_path(lambda path, _: by_path[path], saved[name])
            tree = folders.load(home, saved[name], wanted)
            folders.verify(home, tree, meta[name])
            merged = trees.merge(merged, tree)
        return resized.fit(
            merged, shapes, shardings, resize_queries=resize_queries, source=str(workdir)
        )

    return intact.restore_newest(root, read)


def _homes(root: Path, step: int, names: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Path]]:
    """A step's meta, and where each of its named trees and its frozen parameters are."""
    step_dir = root / "checkpoints" / str(step)
    meta = folders.read_meta(step_dir)
    homes = {name: step_dir / name for name in names}
    if meta["frozen"]:
        homes["frozen"] = root / "frozen" / meta["frozen"]
    return meta, homes
