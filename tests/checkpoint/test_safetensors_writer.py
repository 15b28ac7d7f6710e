"""Files written in pieces by several threads: whole, in order, hashed, or not there."""

import hashlib

import numpy as np
import pytest
from safetensors.numpy import load_file

from qwenvl_jax.checkpoint import safetensors_writer as writer

ARRAYS = {
    name: np.random.default_rng(seed).standard_normal(shape, np.float32)
    for seed, (name, shape) in enumerate({"a": (50, 7), "b": (3,), "c": (7, 90), "d": ()}.items())
}
TENSORS = [writer.Tensor(name, x.shape, x.dtype) for name, x in ARRAYS.items()]


def test_many_pieces_in_few_buffers(tmp_path, monkeypatch):
    """A buffer that is filled again before it was written or hashed; a sync in between."""
    monkeypatch.setattr(writer, "_PANEL_BYTES", 64)
    monkeypatch.setattr(writer, "_SYNC_BYTES", 500)
    (shard,) = writer.plan(TENSORS, 10**6)
    digest = writer.write(tmp_path, shard, iter(ARRAYS.items()))
    found = load_file(tmp_path / shard.file)
    assert found.keys() == ARRAYS.keys()
    for name, x in ARRAYS.items():
        np.testing.assert_array_equal(found[name], x)
    assert digest == hashlib.sha256((tmp_path / shard.file).read_bytes()).hexdigest()


@pytest.mark.parametrize("step", ["write", "fdatasync", "fsync"])
def test_a_full_disk_is_no_file(tmp_path, monkeypatch, step):
    """An error in another thread than the caller's must not end in a file that looks whole."""

    def full(*_):
        raise OSError(28, "No space left on device")

    if step == "write":
        monkeypatch.setattr(writer._HashedFile, "_write", full)
    else:
        monkeypatch.setattr(writer.os, step, full)
    monkeypatch.setattr(writer, "_SYNC_BYTES", 500)
    (shard,) = writer.plan(TENSORS, 10**6)
    with pytest.raises(OSError, match="No space left"):
        writer.write(tmp_path, shard, iter(ARRAYS.items()))
    assert not (tmp_path / shard.file).exists()
