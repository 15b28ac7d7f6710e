"""Checkpoints of a work directory, on Orbax.

    workdir/checkpoints/120/params       the trainable parameters
                            optimizer    moments and counts
                            meta         step, data iterator, config, extra; sha256 of inputs and
                                         the name of the frozen parameters
                            MANIFEST.json
    workdir/frozen/6f0c../               the frozen parameters, once for all steps, named by their
                                         content hash
    workdir/heldout.json                 held-out losses of the kept steps

Saving is asynchronous; a step appears at once, with its manifest, or not at all. Restoring compares
files with it first. Orbax deletes nothing: `tidy` does, after a newer step was verified.
"""

import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import frozen as frozen_lib
from qwenvl_jax.checkpoint import inputs as inputs_lib
from qwenvl_jax.checkpoint import intact, manifest, orbax_reader, orbax_writer, room, tidy
from qwenvl_jax.checkpoint.hash_ahead import HashAhead
from qwenvl_jax.checkpoint.policy import CheckpointConfig
from qwenvl_jax.checkpoint.tidy import Tidy


class Restored(NamedTuple):
    step: int
    params: trees.Tree
    opt_state: Any
    frozen: trees.Tree
    data: np.ndarray  # int64, a row per virtual shard
    extra: dict[str, Any]  # as given to `save`; {} in checkpoints older than it


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

    def __init__(
        self,
        workdir: str | Path,
        config: CheckpointConfig,
        run_config: dict,
        *,
        inputs: Mapping[str, str | Path] = MappingProxyType({}),
    ):
        """
        Args:
          run_config: the whole config as plain data; each step holds a copy.
          inputs: config key -> file that must be the same at every resume (the vocabulary); each
            step holds their sha256.
        """
        self._root = Path(workdir).absolute()
        self._run_config, self._inputs = run_config, dict(inputs)
        self._digests = inputs_lib.digests(inputs)
        self._verify = config.verify
        self._ahead: HashAhead | None = None
        self._saving: int | None = None
        self._step_bytes = self._written = 0  # of the step being saved, of the newest whole one
        self._frozen_hash: str | None = None
        self._tidy: Tidy | None = None
        self._tidying: threading.Thread | None = None
        if jax.process_index() == 0:
            tidy.remove_unfinished(self._root, "*")
            self._tidy = Tidy(self._root, config)
        multihost_utils.sync_global_devices("checkpoint leftovers removed")
        self._manager = ocp.CheckpointManager(
            self._root / "checkpoints",
            options=ocp.CheckpointManagerOptions(
                async_options=ocp.AsyncOptions(post_finalization_callback=self._list_files),
            ),
            item_handlers={
                "params": orbax_writer.handler(),
                "optimizer": orbax_writer.handler(),
                "meta": ocp.JsonCheckpointHandler(),
            },
        )

    def _list_files(self) -> None:
        """Write the manifest of the step being saved; Orbax calls this before it renames it."""
        (folder,) = (self._root / "checkpoints").glob(f"{self._saving}.orbax-checkpoint-tmp*")
        self._written = manifest.write(folder, known=self._stop_hashing())

    def _start_hashing(self, step: int) -> None:
        """Of this process's own data: over a network, another's file looks finished too early."""
        self._stop_hashing()  # that of a save that failed
        if jax.process_index() == 0:
            files = f"{step}.orbax-checkpoint-tmp*/*/{orbax_writer.own_files()}"
            self._ahead = HashAhead(self._root / "checkpoints", files)

    def _stop_hashing(self) -> dict[manifest.State, str]:
        ahead, self._ahead = self._ahead, None
        return ahead.stop() if ahead else {}

    def latest_step(self) -> int | None:
        """The newest whole step on disk."""
        return self._manager.latest_step()

    def scored(self, step: int, heldout_loss: float) -> None:
        """Note the held-out loss of a step that was or is being saved; the lowest one stays.

        The note survives a resume. A loss that is not finite is named in the log and never wins.
        """
        if self._tidy:
            self._tidy.scored(step, heldout_loss)

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
          extra: plain JSON data without NaN that `restore` gives back; the same on every host.

        Raises:
          DiskFull: this save, or the one before it, found the disk full; earlier steps are intact.
          ValueError: `step` is not newer than the newest step on disk.
        """
        if self._frozen_hash is None:
            self._frozen_hash = frozen_lib.save(self._root, frozen)
        opt_state = orbax_reader.by_path(opt_state)
        meta = {
            "step": step,
            "frozen": self._frozen_hash,
            "data": _all_hosts(data).tolist(),
            "config": self._run_config,
            "inputs": self._digests,
            "extra": json.loads(json.dumps(extra or {}, allow_nan=False)),
        }
        self._wait()
        newest = self._manager.latest_step()
        if newest == step:
            logging.info("step %d is saved already", step)
            return
        if newest is not None and newest > step:
            raise ValueError(f"step {step} cannot be saved: step {newest} of {self._root} is newer")
        self._saving, self._step_bytes = step, room.needed_bytes(params, opt_state)
        self._step_bytes = max(self._step_bytes, self._written)
        self._start_hashing(step)
        with self._writing():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    params=orbax_writer.save_args(params),
                    optimizer=orbax_writer.save_args(opt_state),
                    meta=ocp.args.JsonSave(meta),
                ),
            )
        if self._tidy:
            self._tidying = threading.Thread(target=self._prune, args=(self._tidy,), name="tidy")
            self._tidying.start()

    def _prune(self, tidy: Tidy) -> None:
        """In the background: delete old steps once the one being saved is complete."""
        try:
            self._manager.wait_until_finished()
        except Exception:  # noqa: BLE001 - Orbax raises it in each thread that waits: see _wait
            return
        tidy.prune()

    def _wait(self) -> None:
        """Until the save that was started is on disk and old steps are deleted."""
        with self._writing():
            self._manager.wait_until_finished()
        if self._tidying:
            self._tidying.join()

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return room.writing(
            f"step {self._saving}",
            self._root / "checkpoints",
            self._step_bytes,
            tidy=self._after_failure,
        )

    def _after_failure(self) -> str:
        self._stop_hashing()
        if jax.process_index() == 0:
            tidy.remove_unfinished(self._root, str(self._saving))
        whole = ", ".join(map(str, sorted(intact.steps(self._root)))) or "none"
        return f"earlier steps are whole: {whole}"

    def restore(
        self,
        *,
        params: trees.Tree,
        opt_state: Any,
        frozen: trees.Tree,
        shardings: tuple[trees.Tree, Any, trees.Tree],
        step: int | None = None,
        remake_frozen: Callable[[], trees.Tree] | None = None,
    ) -> Restored:
        """A step, straight into its shards; newer ones are moved aside.

        Names and shapes of all parameters are compared before any is read.

        Args:
          params, opt_state, frozen: shapes (ShapeDtypeStructs) of what the config asks for.
          shardings: their shardings, in the same order.
          step: a kept step; newer ones go to `checkpoints-set-aside`. None: the newest intact step;
            damaged newer ones go to `checkpoints-damaged`.
          remake_frozen: gives the frozen parameters again, as `save` takes them, in their shards.
            It is asked where their files are damaged, on every process; only arrays with the same
            content hash are accepted.

        Raises:
          ValueError: `step` is not there (lists those that are), or no step is intact; an input is
            another file; a parameter is missing, unexpected, of another shape, or frozen there and
            trained here; frozen parameters are damaged and cannot be made again.
        """
        asked = step is not None
        if step is None:
            step = intact.newest(self._root, verify=self._verify, frozen=False)
        else:
            step = intact.exact(self._root, step, verify=self._verify)
        where, meta = intact.step_folder(self._root, step), intact.read_meta(self._root, step)
        inputs_lib.check(meta.get("inputs", {}), self._inputs, step=step)
        folder = intact.frozen_folder(self._root, meta["frozen"]) if meta["frozen"] else None
        damage = self._verify and intact.agreed_frozen_damage(self._root, meta["frozen"])
        orbax_reader.check_fits(
            where,
            None if damage else folder,
            params=params,
            opt_state=opt_state,
            frozen=frozen,
        )
        if damage:
            frozen_lib.mend(self._root, meta["frozen"], damage, remake_frozen)
        params = orbax_reader.read(where / "params", params, shardings[0])
        wanted = (orbax_reader.by_path(tree) for tree in (opt_state, shardings[1]))
        leaves = trees.flatten(orbax_reader.read(where / "optimizer", *wanted))
        if folder:
            frozen = orbax_reader.read(folder, frozen, shardings[2])
        self._frozen_hash = meta["frozen"]
        moments = trees.map_with_path(lambda path, _: leaves[path], opt_state)
        self._set_aside(step, asked=asked)
        data = np.asarray(meta["data"], np.int64)
        return Restored(step, params, moments, frozen, data, meta.get("extra", {}))

    def _set_aside(self, step: int, *, asked: bool) -> None:
        if self._tidy:
            intact.set_newer_aside(self._root, step, asked=asked)
            self._tidy.restored(step, verified=self._verify)
        multihost_utils.sync_global_devices("newer steps set aside")
        self._manager.reload()

    def check(self) -> None:
        """Raise what went wrong in the background; costs nothing while a save goes on.

        Raises:
          DiskFull: as for `save`.
        """
        if self._saving is not None and not self._manager.is_saving_in_progress():
            with self._writing():
                self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait until everything that was started is on disk.

        Raises:
          DiskFull: as for `save`.
        """
        try:
            self._wait()
            if self._tidy:
                self._tidy.prune()  # the last held-out loss may have made another step the best
        finally:
            self._stop_hashing()
            self._manager.close()
