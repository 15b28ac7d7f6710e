"""The GPU's attention, as far as a CPU can tell: what cuDNN is told, and what is lowered for CUDA.

That cuDNN then computes the same numbers is for a GPU: `python benchmarks/attention.py`.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax._src.cudnn import fused_attention_stablehlo as library

from qwenvl_jax.batch import most_segments
from qwenvl_jax.model import attention as chosen
from qwenvl_jax.model import cudnn
from qwenvl_jax.model.attention import attention
from qwenvl_jax.model.dense import dense
from qwenvl_jax.model.mask import Visibility
from qwenvl_jax.model.stack import POLICIES
from qwenvl_jax.parallel.mesh import AXES

LENGTH, HEADS, ROWS = 256, 4, 4


@pytest.fixture
def hopper(monkeypatch):
    """JAX asks the machine for its cuDNN and GPU: answers of an H100."""
    monkeypatch.setattr(library, "check_cudnn_version", lambda: 91_200)
    monkeypatch.setattr(library, "check_compute_capability", lambda least: float(least) <= 9.0)
    monkeypatch.setattr(library, "is_cuda_compute_capability_equal", lambda _: False)


def gpu_mesh(sizes=(1, 1, 1)):
    device = jax.sharding.AbstractDevice("NVIDIA H100", num_cores=None, platform="gpu")
    types = (jax.sharding.AxisType.Auto,) * 3
    return jax.sharding.AbstractMesh(sizes, AXES, axis_types=types, abstract_device=device)


rows_of_ids = st.lists(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=1, max_size=8),
    min_size=1,
    max_size=ROWS,
)


@settings(max_examples=60, deadline=None)
@given(stretches=rows_of_ids, most=st.sampled_from([1, 4, 9]))
def test_starts_and_lengths_are_those_of_a_walk_along_the_row(stretches, most):
    """cuDNN believes them: a start that is off by one mixes two samples without an error."""
    length = 80
    rows = np.zeros((ROWS, length), np.int32)
    for row, parts in zip(rows, stretches, strict=False):
        start = 0
        for name, size in parts:
            row[start : start + size] = name
            start += size
    starts, lengths, count = map(np.asarray, jax.jit(cudnn.runs, static_argnums=1)(rows, most))
    for row, ids in enumerate(rows):
        cuts = [0] + [t for t in range(1, length) if ids[t] != ids[t - 1]]
        sizes = [b - a for a, b in zip(cuts, [*cuts[1:], length], strict=True)]
        assert count[row] == len(cuts)
        if len(cuts) <= most:
            free = most - len(cuts)
            assert starts[row].tolist() == cuts + [-1] * (free + 1)
            assert lengths[row].tolist() == sizes + [-1] * free


def packed_rows(rng, rows, length, stretches):
    """Segments cut at random places, the last stretch padding; positions restart."""
    segments, positions = np.zeros((2, rows, length), np.int32)
    for row in range(rows):
        cuts = np.sort(rng.choice(np.arange(1, length), stretches - 1, replace=False))
        for number, (a, b) in enumerate(zip([0, *cuts[:-1]], cuts, strict=True), 1):
            segments[row, a:b], positions[row, a:b] = number, np.arange(b - a)
    return jnp.asarray(segments), jnp.asarray(positions)


def as_documented(q, k, v, q_seqlen, kv_seqlen, q_offsets, kv_offsets, *, scale, mask_type):
    """What JAX documents of the packed kernel, sample by sample; NaN where no sample is."""
    assert mask_type == library.MaskType.PADDING_CAUSAL

    def on_host(q, k, v, lengths, starts):
        out = np.full(q.shape, np.nan, np.float32)
        for row, (begins, sizes) in enumerate(zip(starts, lengths, strict=True)):
            for begin, size in zip(begins, sizes, strict=False):
                if size > 0:
                    here = slice(begin, begin + size)
                    scores = np.einsum("tnh,snh->nts", q[row, here], k[row, here]) * scale
                    scores[:, ~np.tri(size, dtype=bool)] = -np.inf
                    weights = np.exp(scores - scores.max(-1, keepdims=True))
                    weights /= weights.sum(-1, keepdims=True)
                    out[row, here] = np.einsum("nts,snh->tnh", weights, v[row, here])
        return out

    shape = jax.ShapeDtypeStruct(q.shape, np.float32)
    return jax.pure_callback(on_host, shape, q, k, v, q_seqlen, q_offsets)


@pytest.mark.parametrize("stretches", [2, 5, 31, 32])
def test_packed_rows_are_the_dense_ones(monkeypatch, stretches):
    """With padding as the last stretch. No position may be left out, or its garbage would reach
    weight gradients.
    """
    got, want, real = attend(monkeypatch, stretches)
    np.testing.assert_allclose(got[real], want[real], atol=2e-6)
    assert np.isfinite(got).all()


def test_a_row_of_more_samples_than_the_kernel_is_told_of_is_nan(monkeypatch):
    """The stream packs no such row; one that comes from elsewhere must not train on garbage."""
    got, _, _ = attend(monkeypatch, 33)
    assert np.isnan(got).all()


def attend(monkeypatch, stretches):
    """(cuDNN as documented, dense attention, where samples are) for random rows."""
    monkeypatch.setattr(cudnn, "dot_product_attention", as_documented)
    assert most_segments(LENGTH) == 32
    rng = np.random.default_rng(stretches)
    q, k, v = rng.normal(size=(3, 3, LENGTH, 2, 16)).astype(np.float32)
    segments, positions = packed_rows(rng, 3, LENGTH, stretches)
    got = jax.jit(cudnn.fused)(q, k, v, segments)
    visibility = Visibility(segments, positions, segments, positions)
    want = dense(q, k, v, visibility=visibility)
    return np.asarray(got), np.asarray(want), np.asarray(segments) > 0


@pytest.mark.parametrize("packed", [True, False])
def test_the_kernel_runs_forward_once_where_blocks_are_recomputed(hopper, packed):
    """`remat="dots"` keeps what attention comes to and the sums that its gradient needs; without
    them the kernel would run again on the way back.
    """
    x = jax.ShapeDtypeStruct((2, LENGTH, HEADS, 128), jnp.bfloat16)
    ids = jax.ShapeDtypeStruct((2, LENGTH), jnp.int32)

    def total(x, ids, policy):
        def block(x):
            seen = Visibility(ids, ids, ids, ids) if packed else None
            return attention(jnp.tanh(x), x, x, visibility=seen, packed=packed)

        return jax.checkpoint(block, policy=policy)(x).astype(jnp.float32).sum()

    def forwards(policy):
        with jax.sharding.use_abstract_mesh(gpu_mesh()):
            traced = jax.jit(jax.grad(total), static_argnums=2).trace(x, ids, policy)
        return str(traced.jaxpr).count("dot_product_attention_fwd_wrapper[")

    assert forwards(POLICIES["full"]) == 2
    assert forwards(POLICIES["dots"]) == 1


def lowered(sizes, width, *, packed, dtype=jnp.bfloat16):
    """The CUDA program of a gradient, as text."""
    rows = sizes[0] * sizes[1] * 2
    x = jax.ShapeDtypeStruct((rows, LENGTH, HEADS, width), dtype)
    ids = jax.ShapeDtypeStruct((rows, LENGTH), jnp.int32)

    def total(q, k, v, ids):
        seen = Visibility(ids, ids, ids, ids) if packed else None
        out = attention(q, k, v, visibility=seen, packed=packed)
        return out.astype(jnp.float32).sum()

    with jax.sharding.use_abstract_mesh(gpu_mesh(sizes)):
        traced = jax.jit(jax.grad(total, (0, 1, 2))).trace(x, x, x, ids)
        return traced.lower(lowering_platforms=("cuda",)).as_text()


def calls(text: str) -> list[str]:
    return sorted(set(re.findall(r"custom_call @__cudnn\$(\w+)", text)))


@pytest.mark.parametrize(("width", "packed"), [(128, True), (104, False)])
def test_the_program_for_cuda_holds_cudnn_both_ways_and_no_mask(hopper, width, packed):
    """Decoder (packed, 128) and ViT (full, 104): the fused kernel forward and backward, and no
    tensor of the size of all scores, which is what makes long rows unaffordable.
    """
    text = lowered((1, 1, 1), width, packed=packed)
    assert calls(text) == ["fmhaSoftmax", "fmhaSoftmaxBackward"]
    sizes = {tuple(map(int, size.split("x"))) for size in re.findall(r"tensor<([\dx]+)x\w+>", text)}
    assert not [size for size in sizes if size.count(LENGTH) > 1]
    assert ("PADDING_CAUSAL" in text) == packed
    assert f"max_seg_per_batch\\22: {32 if packed else 1}," in text


def test_on_a_mesh_each_gpu_has_its_rows_and_heads(hopper):
    """Offsets count from a device's first row: of the whole batch they would point elsewhere."""
    text = lowered((2, 2, 2), 128, packed=True)
    assert calls(text) == ["fmhaSoftmax", "fmhaSoftmaxBackward"]
    [line] = [line for line in text.splitlines() if "@__cudnn$fmhaSoftmax(" in line]
    operand = re.search(r" : \(tensor<([\dx]+)xbf16>", line)
    assert operand[1] == f"2x{LENGTH}x{HEADS // 2}x128"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (dict(width=128, packed=True, dtype=jnp.float32), "float32"),
        (dict(width=100, packed=False), "multiple of 8"),
    ],
)
def test_what_the_kernel_does_not_take_goes_the_dense_way_and_says_why(hopper, changes, reason):
    """Else float32 models would not run on a GPU, or nobody would know why they are slow."""
    chosen._say_once.cache_clear()
    said = []
    original, chosen.logging.warning = chosen.logging.warning, lambda form, why: said.append(why)
    try:
        text = lowered((1, 1, 1), **changes)
    finally:
        chosen.logging.warning = original
    assert not calls(text)
    assert len(said) == 1 and reason in said[0]
