"""Parameters on disk that stand in for arrays: the same entries, and no more read than asked."""

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore as ts

from qwenvl_jax.checkpoint import layouts, orbax_writer
from qwenvl_jax.checkpoint import safetensors_writer as writer
from qwenvl_jax.checkpoint.stored import Leaf


def random(*shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape, np.float32).astype(dtype)


def written(x, dtype):
    return b"".join(
        p.tobytes() for p in writer.panels(x, dtype, lambda size: np.empty(size, np.uint8))
    )


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        (layouts.SAME, (70, 6)),
        (layouts.SAME, (9,)),
        (layouts.FLAT, (3, 2, 4)),
        (layouts.LINEAR, (6, 70)),
        (layouts.LINEAR, (6, 3, 4, 5)),
        (layouts.LINEAR_FROM_HEADS, (4, 5, 70)),
        (layouts.CONVOLUTION, (4, 4, 3, 6)),
        (layouts.PER_HEAD, (6, 3, 4, 5)),
        (layouts.PER_HEAD_BIAS, (3, 4, 5)),
    ],
)
def test_released_layouts_of_what_is_not_read_yet(layout, shape, dtype, monkeypatch):
    """Runs of rows taken of the wrong dim, or a last one cut short, under any arrangement."""
    monkeypatch.setattr(writer, "_PANEL_BYTES", 200)
    x = random(*shape, dtype=dtype)
    lazy, want = layout.save(Leaf(ts.array(x))), np.ascontiguousarray(layout.save(x))
    assert lazy.shape == want.shape
    assert written(lazy, np.dtype(dtype)) == want.tobytes()


def test_a_transposed_kernel_is_read_in_runs_of_rows(monkeypatch):
    """The head alone is 1.2 GB: read whole, it is a second copy of the largest tensor."""
    monkeypatch.setattr(writer, "_PANEL_BYTES", 64 * 16 * 4)
    x, read = random(64, 160), []

    def entries(domain, out, _):
        read.append(out.size)
        out[...] = x[domain.index_exp]

    options = {
        "dtype": ts.float32,
        "shape": x.shape,
        "chunk_layout": ts.ChunkLayout(read_chunk_shape=(64, 16)),
    }
    store = ts.virtual_chunked(lambda d, o, p: entries(d, np.asarray(o), p), **options)
    assert written(layouts.LINEAR.save(Leaf(store)), np.dtype(np.float32)) == x.T.tobytes()
    assert len(read) == 10 and max(read) == 64 * 16


@pytest.mark.parametrize("ours", [True, False])
def test_chunks_cover_a_parameter(tmp_path, ours, monkeypatch):
    """Of our chunks and of Orbax's own, as work directories before ours have them."""
    monkeypatch.setattr(orbax_writer, "_CHUNK_BYTES", 2000)
    x = random(3, 40, 28)
    handler = orbax_writer.handler() if ours else ocp.PyTreeCheckpointHandler()
    tree = {"blocks": {"kernel": x}}
    args = orbax_writer.save_args(tree) if ours else ocp.args.PyTreeSave(tree)
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(tmp_path / "saved", args=args)
    base = {"driver": "file", "path": f"{tmp_path}/saved/"}
    place = {"driver": "ocdbt", "base": base, "path": "blocks.kernel/"}
    leaf = Leaf(ts.open({"driver": "zarr", "kvstore": place}, read=True).result())
    back = np.full(x.shape, np.nan, np.float32)
    pieces = list(leaf.chunks())
    for index, piece in pieces:
        assert np.isnan(back[index]).all()
        back[index] = piece
    np.testing.assert_array_equal(back, x)
    assert (len(pieces) > 3) == ours
    np.testing.assert_array_equal(np.asarray(leaf[1]), x[1])
    np.testing.assert_array_equal(
        np.asarray(leaf, ml_dtypes.bfloat16), x.astype(ml_dtypes.bfloat16)
    )
