"""PyTorch's own files: read without running them, and ours as torch reads them."""

import json
import os

import jax
import numpy as np
import pytest

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import convert, names
from qwenvl_jax.checkpoint.weights import open_weights
from tests.batches import toy_model
from tests.weights import random_weights


def here(config):
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda _: device, names.parameter_shapes(config))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("old", [False, True])
def test_sharded_bin_files(tmp_path, dtype, old):
    """bf16, which NumPy lacks, in two files with an index, in torch's newer and older format."""
    import torch

    config = toy_model()
    params = jax.tree.map(lambda x: x.astype(convert.DTYPES[dtype]), random_weights(config))
    tensors = {
        name: torch.from_numpy(np.array(x, np.float32, order="C")).to(getattr(torch, dtype))
        for name, x in names.export(params)
    }
    files = {name: f"pytorch_model-{i % 2}.bin" for i, name in enumerate(tensors)}
    for file in set(files.values()):
        part = {name: tensors[name] for name in tensors if files[name] == file}
        torch.save(part, tmp_path / file, _use_new_zipfile_serialization=not old)
    index = {"weight_map": files}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    loaded = convert.load(config, open_weights(tmp_path), shardings=here(config))
    for path, leaf in trees.flatten(loaded).items():
        want = trees.flatten(params)[path]
        assert leaf.dtype == want.dtype
        np.testing.assert_array_equal(leaf, want, err_msg=path)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    """Weights come from strangers: opening a file must never run what it says."""
    import torch

    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"lm_head.weight": Harm()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin.*weights_only=True"):
        open_weights(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_what_is_no_table_of_tensors_is_refused(tmp_path):
    import torch

    torch.save({"epoch": 3}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="no plain table of tensors"):
        open_weights(tmp_path)


def test_an_export_in_torch(tmp_path):
    """Every tensor as torch reads it: the name, the dtype and each entry."""
    import torch
    from safetensors.torch import load_file

    config = toy_model()
    params = random_weights(config)
    convert.save(params, tmp_path / "out", config=config, shard_bytes=8000)
    found = {}
    for file in (tmp_path / "out").glob("*.safetensors"):
        found |= load_file(file)
    want = dict(names.export(params))
    assert set(found) == set(want)
    for name, tensor in found.items():
        fixed = name == names.POSITIONS
        assert tensor.dtype == (torch.float32 if fixed else torch.bfloat16), name
        expected = torch.from_numpy(np.array(want[name], np.float32, order="C"))
        assert torch.equal(tensor, expected.to(tensor.dtype)), name


def test_a_dtype_that_numpy_lacks_is_named(tmp_path):
    """It ended in a TypeError of NumPy's."""
    import torch

    tensors = {"lm_head.weight": torch.zeros(3, dtype=torch.uint8).view(torch.bits8)}
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="'lm_head.weight' is torch.bits8"):
        open_weights(tmp_path)


def test_a_pointer_in_place_of_a_pickle_is_named(tmp_path):
    (tmp_path / "pytorch_model.bin").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match="pytorch_model.bin is a Git LFS pointer"):
        open_weights(tmp_path)
