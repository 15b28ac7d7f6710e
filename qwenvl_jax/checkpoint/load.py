"""Parameters of another run, as a later stage and inference start from them."""

import functools
from collections.abc import Callable
from pathlib import Path

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import intact, orbax_reader, resized
from qwenvl_jax.checkpoint.resized import ResizeQueries


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
    step = intact.newest(root, verify=verify)
    step_dir, frozen = intact.step_folder(root, step), intact.read_meta(root, step)["frozen"]
    folders = [step_dir / "params", *([intact.frozen_folder(root, frozen)] if frozen else [])]
    saved = [trees.partition(orbax_reader.metadata(folder), take)[0] for folder in folders]
    whole = functools.reduce(trees.merge, saved)
    shapes, shardings = (trees.partition(tree, take)[0] for tree in (shapes, shardings))
    stored = resized.stored_shapes(shapes, whole, resize_queries)
    trees.check_same_shapes(stored, whole, what=f"checkpoint {step_dir}")
    by_path = trees.flatten(resized.read_shardings(shapes, stored, shardings))
    merged: trees.Tree = {}
    for folder, tree in zip(folders, saved, strict=True):
        wanted = trees.map_with_path(lambda path, _: by_path[path], tree)
        merged = trees.merge(merged, orbax_reader.read(folder, tree, wanted))
    return resized.fit(
        merged, shapes, shardings, resize_queries=resize_queries, source=str(workdir)
    )
