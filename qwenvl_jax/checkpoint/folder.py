"""One folder that Orbax wrote: what is in it, its arrays in their shards, and whether it is whole.

Orbax has no error of its own for damage: it raises whatever its readers raise. Where a manifest has
vouched for the files, an error is no damage and comes through as it is.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import manifest
from qwenvl_jax.checkpoint.fingerprint import fingerprint
from qwenvl_jax.checkpoint.intact import Damaged


def read_meta(step_dir: Path) -> dict[str, Any]:
    """Step, iterator state, config and content hashes of a step."""
    return json.loads((step_dir / "meta" / "metadata").read_text("utf-8"))


def shapes(folder: Path) -> trees.Tree:
    """Shapes and dtypes of a saved tree.

    Raises:
      Damaged: they cannot be read.
    """
    with damage_named(folder), ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.metadata(folder).item_metadata
        if found is None:  # Orbax only logs that it could not read it
            raise ValueError("its list of arrays cannot be read")
        return jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype), found.tree)


def check_shapes(folder: Path, expected: trees.Tree) -> None:
    """Whether a saved tree has the shapes of `expected`.

    Raises:
      ValueError: lists what is missing, unexpected or of another shape.
    """
    trees.check_same_shapes(expected, shapes(folder), what=f"checkpoint {folder}")


def load(folder: Path, expected: trees.Tree, shardings: trees.Tree) -> trees.Tree:
    """Each host's shards of a saved tree, in the dtypes of `expected`.

    Raises:
      Damaged: they cannot be read.
    """
    wanted = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), expected, shardings
    )
    with damage_named(folder), ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder, wanted)


def verify(folder: Path, tree: trees.Tree, expected: str) -> None:
    """Compare what was read with the content hash that was written down when it was saved.

    Raises:
      Damaged: names the folder.
    """
    found = fingerprint(tree)
    if found != expected:
        raise Damaged(
            f"{folder} is damaged: its content hashes to {found}, but {expected} was saved"
        )


@contextlib.contextmanager
def damage_named(folder: Path) -> Iterator[None]:
    """A reader's complaint about a folder that no manifest vouches for becomes Damaged."""
    try:
        yield
    except Exception as error:
        if not _is_damage(error) or _has_manifest(folder):
            raise
        raise Damaged(f"{folder} is damaged: {error}") from error


def _is_damage(error: Exception) -> bool:
    """What Orbax and TensorStore raise for broken files; never a lack of memory or a bug of ours.

    TensorStore says all in ValueErrors, Orbax some in bare Exceptions.
    """
    if "RESOURCE_EXHAUSTED" in str(error):
        return False
    known = (OSError, ValueError, KeyError, EOFError)
    return isinstance(error, known) or type(error) is Exception


def _has_manifest(folder: Path) -> bool:
    """Of its own (frozen parameters), or of the step that the folder is a part of."""
    return any((place / manifest.NAME).exists() for place in (folder, folder.parent))
