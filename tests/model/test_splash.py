"""The TPU kernel, interpreted on the CPU, against the dense reference: outputs and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qwenvl_jax.model.attention import attention, dense
from qwenvl_jax.model.mask import Visibility
from qwenvl_jax.model.splash import splash
from qwenvl_jax.parallel.mesh import AXES, MeshConfig, make_mesh


def packed(rng, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Segments cut at random places, the last stretch padding; positions restart."""
    segments, positions = np.zeros((2, rows, length), np.int32)
    for row in range(rows):
        cuts = np.sort(rng.choice(np.arange(1, length), 5, replace=False))
        for number, (a, b) in enumerate(zip([0, *cuts[:-1]], cuts), 1):
            segments[row, a:b], positions[row, a:b] = number, np.arange(b - a)
    return segments, positions


def both(q, k, v, cotangent, segments, positions):
    """(output and gradients) of the kernel and of the reference; padding is not looked at."""
    real = np.ones(q.shape[:2], bool) if segments is None else segments > 0
    weight = cotangent * real[..., None, None]
    visibility = segments is not None and Visibility(segments, positions, segments, positions)

    def run(function):
        def weighed(q, k, v):
            out = function(q, k, v)
            return (out * weight).sum(), out * real[..., None, None]

        gradients, out = jax.jit(jax.grad(weighed, argnums=(0, 1, 2), has_aux=True))(q, k, v)
        return [out, *gradients]

    kernel = run(lambda *qkv: splash(*qkv, segments, interpret=True))
    return kernel, run(lambda *qkv: dense(*qkv, visibility=visibility or None))


@pytest.mark.parametrize(
    ("length", "heads", "width", "causal"),
    [(256, 2, 128, True), (384, 1, 104, True), (256, 2, 104, False)],
)
def test_kernel_and_reference_agree(length, heads, width, causal):
    """One segment seen from another, a scale of the padded width or a lost block would show."""
    rng = np.random.default_rng(length + heads)
    arrays = rng.normal(size=(4, 2, length, heads, width)).astype(np.float32)
    segments, positions = map(jnp.asarray, packed(rng, 2, length))
    if not causal:
        segments = positions = None
    for got, want in zip(*both(*arrays, segments, positions), strict=True):
        assert np.abs(want).max() > 0.1
        np.testing.assert_allclose(got, want, atol=3e-5 * np.abs(want).max())


def test_on_a_mesh_each_device_runs_its_rows_and_heads():
    """XLA would gather every row to every device, or refuse to compile for a real chip."""
    rng = np.random.default_rng(7)
    arrays = rng.normal(size=(4, 4, 128, 2, 128)).astype(np.float32)
    segments, positions = map(jnp.asarray, packed(rng, 4, 128))
    with jax.set_mesh(make_mesh(MeshConfig(2, 2, 2))):
        results = both(*arrays, segments, positions)
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, atol=3e-5 * np.abs(want).max())


@pytest.mark.parametrize(
    ("platform", "length", "packed", "kernel"),
    [
        ("tpu", 256, True, True),
        ("tpu", 256, False, False),  # a cache: keys may stand in any order
        ("tpu", 200, True, False),
        ("gpu", 256, True, False),
    ],
)
def test_the_chips_that_a_program_is_for_choose_the_kernel(platform, length, packed, kernel):
    """A program compiled here for TPUs must hold the TPU's kernel, in both directions."""
    device = jax.sharding.AbstractDevice(platform, num_cores=None, platform=platform)
    mesh = jax.sharding.AbstractMesh(
        (1, 1, 1), AXES, axis_types=(jax.sharding.AxisType.Auto,) * 3, abstract_device=device
    )
    rows = jnp.ones((1, length), jnp.int32)

    def total(q):
        return attention(
            q, q, q, visibility=Visibility(rows, rows, rows, rows), packed=packed
        ).sum()

    with jax.sharding.use_abstract_mesh(mesh):
        jaxpr = str(jax.make_jaxpr(jax.grad(total))(jnp.ones((1, length, 2, 64))))
    assert ("pallas_call" in jaxpr) == kernel
