"""A content hash of a tree of arrays that does not depend on how they are sharded.

Each leaf is reduced on its devices to two 32-bit integers (sums of its words, mixed with their
position, modulo 2^32: exact in
any order), then the handful of numbers is hashed with names, shapes and dtypes. A flipped bit,
which Orbax restores without a
word, changes the hash.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from qwenvl_jax import trees

_GROUP_BYTES = 1 << 28
_WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def _mix(x: jax.Array) -> jax.Array:
    """A bijection on 32-bit words in which every bit depends on every other (Steele and Vigna's
    constants).
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _digest_leaf(x: jax.Array) -> jax.Array:
    x = jnp.atleast_1d(x)
    words = lax.bitcast_convert_type(x, _WORDS[x.dtype.itemsize]).astype(jnp.uint32)
    place = jnp.zeros(words.shape, jnp.uint32)
    for dim in range(words.ndim):
        index = lax.broadcasted_iota(jnp.uint32, words.shape, dim)
        place = _mix(place * jnp.uint32(31) + index + jnp.uint32(1))
    first = jnp.sum(_mix(words + place), dtype=jnp.uint32)
    second = jnp.sum(_mix(words ^ _mix(place + jnp.uint32(0x9E3779B9))), dtype=jnp.uint32)
    return jnp.stack([first, second])


@jax.jit
def _digests(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return jax.tree.map(_digest_leaf, leaves)


def fingerprint(tree: trees.Tree) -> str:
    """16 hex digits that name the content of `tree` (any pytree of 8-, 16- or 32-bit arrays).

    Leaves may also be functions that return them: then few exist at a time.
    """
    lines = []
    for group in _groups(trees.flatten(tree)):
        digests = jax.device_get(_digests(group))
        lines += [
            f"{path} {leaf.dtype} {tuple(leaf.shape)} {digests[path].tolist()}"
            for path, leaf in group.items()
        ]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def _groups(leaves: dict[str, Any]) -> Iterator[dict[str, jax.Array]]:
    """Leaves a few at a time: a compilation for each group, not more words in memory than its."""
    group, size = {}, 0
    for path, value in leaves.items():
        leaf = value() if callable(value) else value
        if group and size + leaf.nbytes > _GROUP_BYTES:
            yield group
            group, size = {}, 0
        group[path] = leaf
        size += leaf.nbytes
    yield group
