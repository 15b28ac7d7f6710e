"""The frozen parameters of a work directory: one copy, named by its content hash.

The hash tells whether parameters that were made again are those that were lost. So a damaged copy
is replaced where the run's start (config.init, config.seed) still gives the same.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import intact, manifest, orbax_writer, room, tidy
from qwenvl_jax.checkpoint.fingerprint import fingerprint
from qwenvl_jax.checkpoint.hash_ahead import HashAhead


def save(root: Path, frozen: trees.Tree) -> str:
    """Write the parameters unless an intact copy is there; returns their name, "" for none.

    Raises:
      DiskFull: there is no space for them.
    """
    name = fingerprint(frozen) if frozen else ""
    if name and intact.agreed_frozen_damage(root, name):
        _set_aside(root, name)
        _write(root, name, frozen)
    return name


def mend(root: Path, name: str, damage: str, remake: Callable[[], trees.Tree] | None) -> None:
    """Write damaged parameters once more; the damaged files are moved aside.

    Args:
      damage: what is wrong, for messages.
      remake: gives the parameters again, in their shards, on every process; None: nothing can.

    Raises:
      ValueError: what `remake` gives has another content hash; says what a user can do.
      DiskFull: there is no space for both copies.
    """
    logging.warning("frozen parameters are damaged and made again: %s", damage)
    frozen = remake() if remake else {}
    given = fingerprint(frozen) if frozen else "nothing"
    if given != name:
        raise ValueError(
            f"frozen parameters, which all steps share, are damaged: {damage}; config.init and"
            f" config.seed give {given} in place of {name}. Put a copy of"
            f" {intact.frozen_folder(root, name)} back, or let config.init name the weights that"
            " the run started from"
        )
    _set_aside(root, name)
    _write(root, name, frozen)


def _set_aside(root: Path, name: str) -> None:
    folder = intact.frozen_folder(root, name)
    if jax.process_index() == 0 and folder.exists():
        aside = intact.set_aside(folder, root / "frozen-damaged")
        logging.warning("moved damaged frozen parameters to %s", aside)
    multihost_utils.sync_global_devices("damaged frozen parameters set aside")


def _write(root: Path, name: str, frozen: trees.Tree) -> None:
    folder, ahead = intact.frozen_folder(root, name), None
    if jax.process_index() == 0:
        ahead = HashAhead(root / "frozen", f"{name}*/{orbax_writer.own_files()}")

    def after_failure() -> str:
        if ahead:
            ahead.stop()
            tidy.remove_unfinished(root, name)
        return f"nothing of {root} was changed"

    needed = room.needed_bytes(frozen)
    try:
        with room.writing("the frozen parameters", root, needed, tidy=after_failure):
            with ocp.Checkpointer(orbax_writer.handler()) as checkpointer:
                checkpointer.save(folder, args=orbax_writer.save_args(frozen))
            if ahead:
                manifest.write(folder, known=ahead.stop())
    finally:
        if ahead:
            ahead.stop()
    multihost_utils.sync_global_devices("frozen parameters written")
