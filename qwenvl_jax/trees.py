"""Parameter trees as plain nested dicts, and the paths that name their leaves.

A path is the keys joined by `/`: `decoder/blocks/attn/qkv/kernel`. One regex over paths serves
sharding, freezing, decay masks and learning-rate groups.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

Tree = Any
Array = jax.Array | np.ndarray  # what functions that trace take: either works at the boundary


def path_string(path: tuple) -> str:
    """`(DictKey('a'), SequenceKey(0))` -> `'a/0'`."""
    return "/".join(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path)


def map_with_path(fn: Callable[..., Any], tree: Tree, *rest: Tree, is_leaf=None) -> Tree:
    """`jax.tree.map` whose function also gets the leaf's path string first."""
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: fn(path_string(path), *leaves), tree, *rest, is_leaf=is_leaf
    )


def flatten(tree: Tree) -> dict[str, Any]:
    """Nested dicts -> {path: leaf}, in tree order."""
    return {path_string(p): leaf for p, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def unflatten(flat: Mapping[str, Any]) -> dict:
    """{path: leaf} -> nested dicts; the inverse of `flatten` on trees of dicts."""
    tree: dict = {}
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[name] = leaf
    return tree


def match_one(path: str, rules: Sequence[tuple[str, Any]], *, what: str) -> Any:
    """The value of the one rule whose regex matches the whole path.

    Raises:
      ValueError: no rule or several rules match; the message names path and rules.
    """
    hits = [(pattern, value) for pattern, value in rules if re.fullmatch(pattern, path)]
    if len(hits) != 1:
        found = "no rule" if not hits else f"{len(hits)} rules {[p for p, _ in hits]}"
        raise ValueError(f"{what}: {found} for parameter {path!r}; exactly one is needed")
    return hits[0][1]


def partition(tree: Tree, keep: Callable[[str], bool]) -> tuple[dict, dict]:
    """Split nested dicts into (leaves whose path is kept, the rest); `merge` undoes it."""
    flat = flatten(tree)
    kept = {path: leaf for path, leaf in flat.items() if keep(path)}
    rest = {path: leaf for path, leaf in flat.items() if path not in kept}
    return unflatten(kept), unflatten(rest)


def merge(first: Mapping, second: Mapping) -> dict:
    """Join two trees of nested dicts that share no leaf."""
    merged = dict(first)
    for key, value in second.items():
        if key not in merged:
            merged[key] = value
        elif isinstance(merged[key], Mapping) and isinstance(value, Mapping):
            merged[key] = merge(merged[key], value)
        else:
            raise ValueError(f"merge: both trees hold a leaf at {key!r}")
    # Key order decides nothing in JAX (dicts are sorted), but a stable order keeps logs readable.
    return merged


def check_same_shapes(expected: Tree, got: Tree, *, what: str) -> None:
    """Compare two trees of arrays or ShapeDtypeStructs leaf by leaf.

    Raises:
      ValueError: lists every missing, unexpected and mis-shaped path with what was expected.
    """
    want, have = flatten(expected), flatten(got)
    lines = [f"  missing    {path} {want[path].shape}" for path in want if path not in have]
    lines += [f"  unexpected {path} {have[path].shape}" for path in have if path not in want]
    lines += [
        f"  mis-shaped {path}: expected {want[path].shape}, got {have[path].shape}"
        for path in want
        if path in have and tuple(want[path].shape) != tuple(have[path].shape)
    ]
    if lines:
        raise ValueError(f"{what}: {len(lines)} parameters do not fit\n" + "\n".join(lines))
