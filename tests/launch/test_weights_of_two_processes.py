"""Released files read by a job of two processes: each takes the slices of its own shards."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from launch import hosts, weights
from qwenvl_jax import trees
from qwenvl_jax.checkpoint import convert, imported
from qwenvl_jax.parallel import rules
from qwenvl_jax.parallel.mesh import MeshConfig, make_mesh
from tests.batches import toy_model
from tests.processes import run_job
from tests.weights import random_weights


def one_process(folder: Path) -> None:
    """What each of the two does."""
    hosts.join()
    assert jax.process_count() == 2
    config, whole = toy_model(), trees.flatten(random_weights(toy_model()))
    shardings = rules.parameter_shardings(
        make_mesh(MeshConfig(data=1, fsdp=2, tensor=2)), trees.unflatten(whole)
    )
    towers = dict.fromkeys(imported.TOWERS, folder / "released")
    loaded = trees.flatten(imported.load_towers(config, towers, shardings=shardings))
    assert loaded.keys() == whole.keys()
    split = 0
    for path, x in loaded.items():
        for shard in x.addressable_shards:
            np.testing.assert_array_equal(shard.data, whole[path][shard.index], err_msg=path)
        split += not x.is_fully_replicated
    assert split > 10  # as many lie in pieces
    with pytest.raises(ValueError, match="one process writes a work directory.*one of 2"):
        weights.import_weights({"qwen_vl": str(folder / "released")}, folder / "out", page="")
    assert not (folder / "out").exists()


def test_each_process_reads_its_own_shards(tmp_path):
    """A slice of the whole mesh's place in a process's own would be another part of the file."""
    config = toy_model()
    convert.save(random_weights(config), tmp_path / "released", config=config, dtype="float32")
    code = f"from {__name__} import *; one_process(Path({str(tmp_path)!r}))"
    run_job([sys.executable, "-c", code], devices=2, timeout=300)
