"""Trees from Orbax folders: what one holds, whether it fits, and its arrays in their shards."""

from pathlib import Path

import jax
import orbax.checkpoint as ocp

from qwenvl_jax import trees


def metadata(folder: Path) -> trees.Tree:
    """Shapes and dtypes of a saved tree."""
    tree = ocp.PyTreeCheckpointHandler().metadata(folder).tree
    return jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype), tree)


def by_path(tree: trees.Tree) -> dict:
    """Any pytree as nested dicts of its paths, so that what is on disk knows no Optax class."""
    return trees.unflatten(trees.flatten(tree))


def check_fits(
    step: Path, frozen_folder: Path | None, *, params: trees.Tree, opt_state, frozen: trees.Tree
) -> None:
    """Compare names and shapes of all that a step holds with what a config asks for.

    Only metadata are read.

    Args:
      step: the step's folder.
      frozen_folder: that of its frozen parameters; None: it has none, or they cannot be read.
      params, opt_state, frozen: ShapeDtypeStructs.

    Raises:
      ValueError: names every parameter that is missing, unexpected, of another shape, or frozen on
        one side and trained on the other.
    """
    trained = metadata(step / "params")
    kept = metadata(frozen_folder) if frozen_folder else {}
    sides = (
        (trained, frozen, "is trained in the checkpoint and frozen by config.optim.trainable"),
        (kept, params, "is frozen in the checkpoint and trained by config.optim.trainable"),
    )
    for have, want, text in sides:
        both = sorted(trees.flatten(have).keys() & trees.flatten(want).keys())
        if both:
            more = f" ({len(both) - 1} more)" if len(both) > 1 else ""
            raise ValueError(f"checkpoint {step}: {both[0]}{more} {text}")
    trees.check_same_shapes(params, trained, what=f"checkpoint {step / 'params'}")
    if frozen_folder:
        trees.check_same_shapes(frozen, kept, what=f"frozen parameters {frozen_folder}")
    moments = metadata(step / "optimizer")
    trees.check_same_shapes(by_path(opt_state), moments, what=f"checkpoint {step / 'optimizer'}")


def read(folder: Path, shapes: trees.Tree, shardings: trees.Tree) -> trees.Tree:
    """The parameters that `shapes` names, of all that the folder holds."""
    wanted = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings
    )
    if not trees.flatten(wanted):
        return {}
    with ocp.PyTreeCheckpointer() as checkpointer:
        where = ocp.checkpoint_utils.construct_restore_args(wanted)
        restore = ocp.args.PyTreeRestore(wanted, restore_args=where, partial_restore=True)
        return checkpointer.restore(folder, args=restore)
