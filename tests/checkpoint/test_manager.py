"""Checkpoints: what comes back is what was saved, or an error that says where the damage is."""

import dataclasses
import functools
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import folder as folders
from qwenvl_jax.checkpoint import intact
from qwenvl_jax.checkpoint.manager import CheckpointConfig, Checkpoints, load_parameters
from qwenvl_jax.model.config import AdapterConfig
from qwenvl_jax.parallel.mesh import MeshConfig, make_mesh
from qwenvl_jax.train import optim
from qwenvl_jax.train import state as state_lib
from tests.batches import toy_model
from tests.train.test_step import optim_config

DATA = np.arange(12, dtype=np.int64).reshape(4, 3)


def parts_of(model):
    """Shapes and shardings of a stage, as the trainer makes them."""
    tx = optim.make_optimizer(optim_config(), model.vit.layers)
    shapes = jax.eval_shape(lambda s: state_lib.initialize(model, optim_config(), tx, s), 0)
    mesh = make_mesh(MeshConfig(2, 2, 2))
    return SimpleNamespace(shapes=shapes, shardings=state_lib.shardings(mesh, tx, *shapes))


@pytest.fixture(scope="module")
def parts():
    return parts_of(toy_model(dtype="bfloat16"))


@functools.partial(jax.jit, donate_argnums=0)
def step_of(state):
    """As a training step does: new values in the buffers of the old."""
    return jax.tree.map(lambda x: x + jnp.ones((), x.dtype), state)


@pytest.fixture(scope="module")
def written(parts, tmp_path_factory):
    """A work directory with steps 1 and 2, saved while the next step overwrites the buffers."""
    rng = np.random.default_rng(0)

    def random(x, sharding):
        return jax.device_put(np.asarray(rng.standard_normal(x.shape) * 9, x.dtype), sharding)

    state, frozen = jax.tree.map(random, parts.shapes, parts.shardings)
    folder = tmp_path_factory.mktemp("manager")
    checkpoints = Checkpoints(folder, CheckpointConfig(every=1, keep=3), {"seed": 0})
    for step in (1, 2):
        state = step_of(state)
        kept = jax.tree.map(np.array, jax.device_get(state))
        checkpoints.save(
            step, params=state.params, opt_state=state.opt_state, frozen=frozen, data=DATA + step
        )
    step_of(state)
    checkpoints.close()
    return folder, kept, jax.device_get(frozen)


@pytest.fixture
def saved(written, tmp_path):
    """A copy that a test may damage."""
    folder = tmp_path / "work"
    shutil.copytree(written[0], folder)
    return folder, *written[1:]


def restore(parts, folder):
    shapes, frozen_shapes = parts.shapes
    shardings, frozen_shardings = parts.shardings
    checkpoints = Checkpoints(folder, CheckpointConfig(every=1, keep=3), {})
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


def test_restores_every_bit_into_its_shards(parts, saved):
    """Donated buffers, lost moments or a replicated restore would show here."""
    folder, state, frozen = saved
    back = restore(parts, folder)
    assert back.step == 2
    assert_same(back.params, state.params)
    assert_same(back.opt_state, state.opt_state)
    assert_same(back.frozen, frozen)
    np.testing.assert_array_equal(back.data, DATA + 2)
    same = jax.tree.map(lambda x, s: x.sharding == s, back.params, parts.shardings[0].params)
    assert all(jax.tree.leaves(same))


def test_frozen_weights_are_written_once(saved):
    """15 GB of decoder in every step's folder would fill a disk in an hour."""
    folder, _, frozen = saved
    assert len(list((folder / "frozen").iterdir())) == 1
    size = sum(f.stat().st_size for f in (folder / "checkpoints" / "2").rglob("*") if f.is_file())
    assert size > 0
    names = [str(p) for p in (folder / "checkpoints").rglob("*")]
    assert not any("decoder" in name for name in names)


def biggest(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def flip(victim):
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 16
    victim.write_bytes(bytes(content))


def test_a_flipped_bit_in_any_file_is_named(saved):
    """Orbax restores damage silently; each file of a step in turn must be found."""
    folder = saved[0]
    files = [p for p in (folder / "checkpoints/2").rglob("*") if p.is_file() and p.stat().st_size]
    assert len(files) > 10
    for victim in files:
        flip(victim)
        with pytest.raises(intact.Damaged, match=victim.name):
            intact._check_files(folder, 2)
        flip(victim)
    intact._check_files(folder, 2)


def test_a_damaged_step_gives_way_to_the_older_one(parts, saved, caplog):
    """A run whose newest checkpoint is damaged goes on, says so, and can save that step anew."""
    folder = saved[0]
    victim = biggest(folder / "checkpoints/2/optimizer")
    flip(victim)
    back = restore(parts, folder)
    assert back.step == 1
    np.testing.assert_array_equal(back.data, DATA + 1)
    assert str(victim) in caplog.text
    assert (folder / "checkpoints-damaged/2").is_dir()
    assert not (folder / "checkpoints/2").exists()


@pytest.mark.parametrize("damage", ["cut", "reversed", "absent"])
def test_damage_without_a_manifest_is_found_by_reading(parts, saved, damage):
    """A run killed between save and manifest restores, and damage still gives way."""
    folder = saved[0]
    (folder / "checkpoints/2/MANIFEST.json").unlink()
    if damage == "reversed":
        assert restore(parts, folder).step == 2
    for victim in (folder / "checkpoints/2/params").rglob("d/*"):  # some hold unused copies
        content = victim.read_bytes()
        victim.write_bytes(content[: len(content) // 2] if damage == "cut" else content[::-1])
    if damage == "absent":
        shutil.rmtree(folder / "checkpoints/2/params")
    assert restore(parts, folder).step == 1


def test_content_is_compared_when_files_are_unlisted(parts, saved):
    """Orbax's word is not enough: a hash that does not agree with the arrays is damage."""
    folder = saved[0]
    (folder / "checkpoints/2/MANIFEST.json").unlink()
    meta = folder / "checkpoints/2/meta/metadata"
    meta.write_text(
        meta.read_text().replace(folders.read_meta(meta.parents[1])["params"], "0" * 16)
    )
    assert restore(parts, folder).step == 1


@pytest.mark.parametrize("error", [MemoryError("no memory"), ValueError("RESOURCE_EXHAUSTED: x")])
def test_lack_of_memory_is_no_damage(saved, error):
    """A good step must never be moved aside because a host was full."""
    (saved[0] / "checkpoints/2/MANIFEST.json").unlink()
    with pytest.raises(type(error), match=str(error)) as raised:
        with folders.damage_named(saved[0] / "checkpoints/2/params"):
            raise error
    assert not isinstance(raised.value, intact.Damaged)


def test_an_error_after_a_verified_manifest_is_no_damage(saved):
    with pytest.raises(OSError, match="mount gone"):
        with folders.damage_named(saved[0] / "checkpoints/2/params"):
            raise OSError("mount gone")


def test_damaged_frozen_weights_leave_no_intact_step(parts, saved):
    """All steps share them: falling back must end in an error, with nothing moved away."""
    folder = saved[0]
    flip(biggest(folder / "frozen"))
    with pytest.raises(ValueError, match="no intact checkpoint among steps"):
        restore(parts, folder)
    assert (folder / "checkpoints/2").is_dir()


@pytest.mark.parametrize("listed", [True, False])
def test_another_shape_is_refused_with_its_path(saved, listed):
    """Restoring into another query count must name the parameter and leave the step in place."""
    if not listed:
        (saved[0] / "checkpoints/2/MANIFEST.json").unlink()
    adapter = AdapterConfig(num_queries=9, heads=4)
    other = dataclasses.replace(toy_model(dtype="bfloat16"), adapter=adapter)
    with pytest.raises(
        ValueError, match=r"mis-shaped adapter/query: expected \(9, 32\), got \(4, 32\)"
    ):
        restore(parts_of(other), saved[0])
    assert (saved[0] / "checkpoints/2").is_dir()


def test_an_unfinished_save_is_cleared_away(parts, saved):
    """A killed save leaves a folder that nothing else removes; it must not be taken for a step."""
    leftover = saved[0] / "checkpoints" / "3.orbax-checkpoint-tmp-7"
    leftover.mkdir()
    assert restore(parts, saved[0]).step == 2
    assert not leftover.exists()


def test_a_later_stage_takes_all_parameters(parts, saved):
    """Stage 2 starts from stage 1: trained and frozen parameters together, each bit the same."""
    folder, state, frozen = saved
    shapes = trees.merge(parts.shapes[0].params, parts.shapes[1])
    where = trees.merge(parts.shardings[0].params, parts.shardings[1])
    params = load_parameters(folder, shapes, where)
    assert_same(params, trees.merge(state.params, frozen))


def test_a_later_stage_starts_from_the_newest_intact_step(parts, saved):
    """It reads another run's folder: falling back must not move anything there."""
    folder = saved[0]
    flip(biggest(folder / "checkpoints/2/params"))
    shapes = trees.merge(parts.shapes[0].params, parts.shapes[1])
    params = load_parameters(
        folder, shapes, trees.merge(parts.shardings[0].params, parts.shardings[1])
    )
    assert (folder / "checkpoints/2").is_dir()
    with pytest.raises(AssertionError):
        assert_same(params, trees.merge(saved[1].params, saved[2]))


def test_no_checkpoint_is_said_so(parts, tmp_path):
    with pytest.raises(ValueError, match="config.init.checkpoint: no checkpoint"):
        load_parameters(tmp_path, parts.shapes[1], parts.shardings[1])
