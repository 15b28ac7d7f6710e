"""The content hash: damage anywhere changes it, the mesh does not."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from qwenvl_jax.checkpoint.fingerprint import fingerprint


def random(shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.int8])
@pytest.mark.parametrize("shape", [(), (7,), (8, 33), (3, 5, 7, 2), (2, 70_000), (70_001, 3)])
def test_every_bit_counts(shape, dtype):
    """Pieces must cover the first and last word and those where two pieces meet."""
    tree = {"a": random(shape, dtype), "b": jnp.ones(7, jnp.bfloat16)}
    before = fingerprint(tree)
    size = tree["a"].size
    for word in sorted({0, size // 2, size - 1, *(w for w in (65_535, 65_536) if w < size)}):
        for bit in (0, 3, 7):
            raw = bytearray(tree["a"].tobytes())
            raw[word * tree["a"].itemsize] ^= 1 << bit
            assert fingerprint(tree | {"a": np.frombuffer(raw, dtype).reshape(shape)}) != before


def test_order_name_shape_and_dtype_count():
    """Two exchanged rows or parameters hold the same words."""
    a = random((8, 33))
    same = fingerprint({"a": a, "b": -a})
    others = (
        {"a": a[::-1].copy(), "b": -a},
        {"a": a[:, ::-1].copy(), "b": -a},
        {"a": -a, "b": a},
        {"a": a.reshape(33, 8), "b": -a},
        {"a": a.view(np.int32), "b": -a},
        {"a": a, "c": -a},
    )
    assert len({same, *map(fingerprint, others)}) == 7


@pytest.mark.parametrize("spec", [("x", None), (None, "y"), ("x", "y"), (("x", "y"), None), ()])
def test_shards_do_not_count(spec):
    """A run resumed on another mesh restores what was saved."""
    a = random((8, 6, 5))
    mesh = jax.make_mesh((4, 2), ("x", "y"))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
    assert fingerprint({"a": jax.device_put(a, sharding)}) == fingerprint({"a": a})
    assert fingerprint({"a": lambda: a}) == fingerprint({"a": a})
