"""Checkpoints: what comes back is what was saved, or an error that says where the damage is."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import intact, manifest
from qwenvl_jax.checkpoint.load import load_parameters
from qwenvl_jax.checkpoint.manager import Checkpoints
from qwenvl_jax.checkpoint.policy import CheckpointConfig
from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.config import AdapterConfig
from qwenvl_jax.parallel import rules
from qwenvl_jax.parallel.mesh import MeshConfig
from qwenvl_jax.train import optim, program, trainer
from qwenvl_jax.train import state as state_lib
from qwenvl_jax.train.config import TrainConfig
from tests.batches import packed_batch, shapes_of, toy_model
from tests.train.test_step import optim_config

DATA = np.arange(12, dtype=np.int64).reshape(4, 3)


@pytest.fixture(scope="module")
def prepared():
    config = TrainConfig(
        seed=0,
        model=toy_model(dtype="bfloat16"),
        optim=optim_config(),
        mesh=MeshConfig(2, 2, 2),
        loss_chunk=16,
    )
    batch = packed_batch(np.random.default_rng(0))
    return config, program.prepare(config, shapes_of(batch), num_sources=2)


@pytest.fixture(scope="module")
def written(prepared, tmp_path_factory):
    """A work directory with steps 1 and 2."""
    config, parts = prepared
    folder = tmp_path_factory.mktemp("written")
    state, frozen = trainer.start(config, parts)
    checkpoints = Checkpoints(folder, CheckpointConfig(every=1, keep=3), {"seed": 0})
    with jax.set_mesh(parts.mesh):
        for step in (1, 2):
            batch = packed_batch(np.random.default_rng(step))
            batch = trainer.put(batch, rules.batch_sharding(parts.mesh))
            state, _ = parts.train_step(state, frozen, batch)
            checkpoints.save(
                step,
                params=state.params,
                opt_state=state.opt_state,
                frozen=frozen,
                data=DATA + step,
            )
    checkpoints.close()
    return folder, jax.device_get(state), jax.device_get(frozen)


@pytest.fixture
def saved(written, tmp_path):
    """A copy of it that a test may damage."""
    folder, state, frozen = written
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return tmp_path, state, frozen


def restore(parts, folder, *, verify=True):
    shapes, frozen_shapes = parts.shapes
    shardings, frozen_shardings = parts.shardings
    checkpoints = Checkpoints(folder, CheckpointConfig(every=1, keep=3, verify=verify), {})
    try:
        return checkpoints.restore(
            params=shapes.params,
            opt_state=shapes.opt_state,
            frozen=frozen_shapes,
            shardings=(shardings.params, shardings.opt_state, frozen_shardings),
        )
    finally:
        checkpoints.close()


def assert_same(got, want):
    got, want = trees.flatten(got), trees.flatten(want)
    assert got.keys() == want.keys()
    for path in want:
        np.testing.assert_array_equal(np.asarray(got[path]), np.asarray(want[path]), err_msg=path)


def test_restores_every_bit_into_its_shards(prepared, saved):
    """Donated buffers, lost moments or a replicated restore would show here."""
    folder, state, frozen = saved
    back = restore(prepared[1], folder)
    assert back.step == 2
    assert_same(back.params, state.params)
    assert_same(back.opt_state, state.opt_state)
    assert_same(back.frozen, frozen)
    np.testing.assert_array_equal(back.data, DATA + 2)
    same = jax.tree.map(lambda x, s: x.sharding == s, back.params, prepared[1].shardings[0].params)
    assert all(jax.tree.leaves(same))


def test_frozen_weights_are_written_once(saved):
    """15 GB of decoder in every step's folder would fill a disk in an hour."""
    folder, _, frozen = saved
    assert len(list((folder / "frozen").iterdir())) == 1
    size = sum(f.stat().st_size for f in (folder / "checkpoints" / "2").rglob("*") if f.is_file())
    assert size > 0
    names = [str(p) for p in (folder / "checkpoints").rglob("*")]
    assert not any("decoder" in name for name in names)


def flip(file):
    """Change one bit in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(bytes(content))


def test_a_flipped_bit_in_any_file_gives_way_to_the_older_step(prepared, saved, caplog):
    """Orbax restores damage silently; each file of a step in turn must be found and named."""
    folder, _, _ = saved
    assert intact.newest(folder, verify=True) == 2
    files = [p for p in (folder / "checkpoints" / "2").rglob("*") if p.is_file()]
    files = [p for p in files if p.stat().st_size and p.name not in manifest.STAMPS]
    assert len(files) > 10
    for file in files:
        flip(file)
        caplog.clear()
        assert intact.newest(folder, verify=True) == 1
        assert file.name in caplog.text
        flip(file)
    flip(files[0])
    assert restore(prepared[1], folder).step == 1
    assert (folder / "checkpoints-damaged" / "2").is_dir()
    assert not (folder / "checkpoints" / "2").exists()


def test_a_flag_skips_the_check(prepared, saved):
    """A manifest that was lost must not lock anyone out of weights that are there."""
    folder, state, _ = saved
    (folder / "checkpoints" / "2" / manifest.NAME).unlink()
    assert intact.newest(folder, verify=True) == 1
    back = restore(prepared[1], folder, verify=False)
    assert back.step == 2
    assert_same(back.params, state.params)


def test_damaged_frozen_weights_leave_no_intact_step(prepared, saved):
    """All steps share them: without what made them, reading ends in an error, nothing is moved."""
    folder, _, _ = saved
    files = [p for p in (folder / "frozen").rglob("*") if p.is_file()]
    flip(max(files, key=lambda p: p.stat().st_size))
    with pytest.raises(ValueError, match="frozen parameters, which all steps share, are damaged"):
        restore(prepared[1], folder)
    with pytest.raises(ValueError, match="no intact checkpoint under"):
        intact.newest(folder, verify=True)
    assert (folder / "checkpoints" / "2").is_dir()


def test_another_shape_is_refused_with_its_path(prepared, saved):
    """Restoring into another query count must name the parameter, not fail inside a kernel."""
    other = dataclasses.replace(
        toy_model(dtype="bfloat16"), adapter=AdapterConfig(num_queries=9, heads=4)
    )
    changed = TrainConfig(
        seed=0, model=other, optim=optim_config(), mesh=MeshConfig(2, 2, 2), loss_chunk=16
    )
    tx = optim.make_optimizer(changed.optim, other.vit.layers)
    shapes = jax.eval_shape(lambda s: state_lib.initialize(other, changed.optim, tx, s), 0)
    mesh = prepared[1].mesh
    shardings = state_lib.shardings(mesh, tx, *shapes)
    parts = prepared[1]._replace(shapes=shapes, shardings=shardings)
    with pytest.raises(
        ValueError, match=r"mis-shaped adapter/query: expected \(9, 32\), got \(4, 32\)"
    ):
        restore(parts, saved[0])


def test_an_unfinished_save_is_cleared_away(prepared, saved):
    """A killed save leaves a folder that nothing else removes; it must not be taken for a step."""
    leftover = saved[0] / "checkpoints" / "3.orbax-checkpoint-tmp-7"
    leftover.mkdir()
    assert restore(prepared[1], saved[0]).step == 2
    assert not leftover.exists()


def test_a_later_stage_takes_all_parameters(prepared, saved):
    """Stage 2 starts from stage 1: trained and frozen parameters together, each bit the same."""
    folder, state, frozen = saved
    parts = prepared[1]
    shapes = trees.merge(parts.shapes[0].params, parts.shapes[1])
    where = trees.merge(parts.shardings[0].params, parts.shardings[1])
    params = load_parameters(folder, shapes, where)
    assert_same(params, trees.merge(state.params, frozen))


def test_what_is_not_taken_may_have_any_shape(prepared, saved):
    """A decoder of stage 0 must serve vision towers of every size, as in an ablation."""
    folder, state, frozen = saved
    other = dataclasses.replace(toy_model(), adapter=AdapterConfig(num_queries=9, heads=4))
    shapes = jax.eval_shape(lambda key: qwenvl.init(other, key), jax.random.key(0))
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    where = jax.tree.map(lambda _: here, shapes)
    taken = load_parameters(folder, shapes, where, take=lambda path: path.startswith("decoder/"))
    whole = trees.merge(state.params, frozen)
    assert_same(taken, {"decoder": whole["decoder"]})


def test_no_checkpoint_is_said_so(prepared, tmp_path):
    parts = prepared[1]
    with pytest.raises(ValueError, match="no checkpoint under"):
        load_parameters(tmp_path, parts.shapes[1], parts.shardings[1])
