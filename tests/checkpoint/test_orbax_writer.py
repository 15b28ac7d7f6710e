"""What a checkpoint looks like on disk, as another reader of the same format sees it."""

import tracemalloc

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp

from qwenvl_jax.checkpoint import orbax_writer, safetensors_writer
from qwenvl_jax.checkpoint.convert import Reader
from qwenvl_jax.checkpoint.names import TABLE
from qwenvl_jax.checkpoint.weights import open_weights

GATE = "decoder/blocks/mlp/gate/kernel"


def random(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def save(folder, tree):
    with ocp.Checkpointer(orbax_writer.handler()) as checkpointer:
        checkpointer.save(folder, args=orbax_writer.save_args(tree))


def restored(folder):
    with ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.restore(folder)


def gate_reader(folder, layers, width):
    """A reader of a stacked, transposed kernel, and the array that it stands for."""
    (row,) = [row for row in TABLE if row.ours == GATE]
    x_LDD = random(layers, width, width).astype(ml_dtypes.bfloat16)
    tensors = [
        safetensors_writer.Tensor(row.released.format(i=i), x.shape, x.dtype)
        for i, x in enumerate(x_LDD)
    ]
    (shard,) = safetensors_writer.plan(tensors, 10**10)
    named = ((tensor.name, x.T) for tensor, x in zip(tensors, x_LDD))
    safetensors_writer.write(folder, shard, named)
    return Reader(open_weights(folder / shard.file), row, x_LDD.shape, None), x_LDD


def test_weights_are_not_compressed(tmp_path):
    """Compression is Orbax's default and made saving three times slower than the disk."""
    x = np.zeros((512, 1024), np.float32)
    x[0] = 1
    save(tmp_path / "saved", {"kernel": x})
    sizes = [f.stat().st_size for f in (tmp_path / "saved").rglob("*") if f.is_file()]
    assert sum(sizes) > x.nbytes


def test_a_reader_is_saved_as_its_array(tmp_path):
    """Read back by Orbax alone: every bit, next to an ordinary array."""
    read, want = gate_reader(tmp_path, layers=3, width=96)
    tree = {"decoder": {"blocks": {"mlp": {"gate": {"kernel": read}}}}, "other": random(5)}
    save(tmp_path / "saved", tree)
    back = restored(tmp_path / "saved")
    got = np.asarray(back["decoder"]["blocks"]["mlp"]["gate"]["kernel"])
    assert got.dtype == want.dtype and got.tobytes() == want.tobytes()
    np.testing.assert_array_equal(back["other"], random(5))


def test_a_stacked_parameter_is_cut_into_layers(tmp_path):
    """One chunk for all layers would have to be read whole for any of them."""
    save(tmp_path / "saved", {"blocks": {"kernel": random(4, 8, 6)}, "kernel": random(4, 8)})
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(tmp_path / "saved").item_metadata.tree
    assert tuple(tree["blocks"]["kernel"].storage.chunk_shape) == (1, 8, 6)
    assert tuple(tree["kernel"].storage.chunk_shape) == (4, 8)


def test_a_reader_is_never_in_memory_whole(tmp_path):
    """A layer or two at a time: a stacked kernel of the released size is 3 GB."""
    read, want = gate_reader(tmp_path, layers=96, width=256)
    tracemalloc.start()
    save(tmp_path / "saved", {"blocks": {"kernel": read}})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < want.nbytes / 2
