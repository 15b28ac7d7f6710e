"""The sharding guard: 8 host devices, every layout gives one answer, and nothing is silently
replicated.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from qwenvl_jax import trees
from qwenvl_jax.parallel import rules
from qwenvl_jax.parallel.mesh import MeshConfig, place
from qwenvl_jax.train import program, trainer
from qwenvl_jax.train.config import TrainConfig
from tests.batches import packed_batch, shapes_of, toy_model
from tests.train.test_step import optim_config, sharing

MESHES = [(1, 1, 1), (8, 1, 1), (1, 8, 1), (1, 4, 2), (2, 2, 2)]


def prepare(mesh, model=None, **optim):
    config = TrainConfig(
        seed=0,
        model=model or toy_model(),
        optim=optim_config(**optim),
        mesh=MeshConfig(*mesh),
        loss_chunk=16,
    )
    batch = packed_batch(np.random.default_rng(0))
    devices = jax.devices()[: int(np.prod(mesh))]
    return config, program.prepare(config, shapes_of(batch), num_sources=2, devices=devices)


@pytest.fixture(scope="module")
def losses():
    """Three losses on every mesh."""
    return {mesh: curve(*prepare(mesh))[0] for mesh in MESHES}


def curve(config, prepared):
    """(three losses, the frozen parameters as the steps read them)."""
    state, frozen = trainer.start(config, prepared)
    losses = []
    with jax.set_mesh(prepared.mesh):
        for number in range(3):
            batch = packed_batch(np.random.default_rng(number))
            batch = trainer.put(batch, rules.batch_sharding(prepared.mesh))
            state, metrics = prepared.train_step(state, frozen, batch)
            losses.append(float(metrics["loss"]))
    return losses, frozen


@pytest.mark.parametrize("mesh", MESHES[1:])
def test_same_losses_on_every_mesh(losses, mesh):
    """A wrong collective or a replica that drifts shows within three steps."""
    np.testing.assert_allclose(losses[mesh], losses[MESHES[0]], rtol=2e-5)


def test_unrolled_layers_read_a_frozen_decoder_layer_by_layer(losses):
    """The same losses as by a scan over stacks; each layer in its shards, so that no device holds a
    whole one; and back in stacks, as checkpoints have it, bit for bit.
    """
    config, prepared = prepare((2, 2, 2), toy_model(scan_layers=False, remat="dots"))
    got, frozen = curve(config, prepared)
    np.testing.assert_allclose(got, losses[MESHES[0]], rtol=2e-5)
    layer = frozen["decoder"]["blocks"]["1"]
    assert layer["mlp"]["up"]["kernel"].sharding.spec == P("fsdp", "tensor")
    assert layer["attn"]["out"]["kernel"].sharding.spec == P("tensor", None, "fsdp")
    stored = trees.flatten(prepared.to_store(frozen))
    _, scanned = trainer.start(*prepare((2, 2, 2)))
    for path, leaf in trees.flatten(scanned).items():
        np.testing.assert_array_equal(stored[path], leaf, err_msg=path)
        assert stored[path].sharding == leaf.sharding, path


def test_parameters_and_moments_are_where_the_table_says():
    """A moment that is replicated, or laid out unlike its parameter, costs memory silently."""
    config, prepared = prepare((2, 2, 2), trainable=".*")
    state, _ = trainer.start(config, prepared)
    params = trees.flatten(state.params)
    expected = {
        "vit/blocks/mlp/up/kernel": P(None, "fsdp", "tensor"),
        "decoder/blocks/attn/qkv/kernel": P(None, "fsdp", None, "tensor", None),
        "decoder/blocks/mlp/down/kernel": P(None, "tensor", "fsdp"),
        "adapter/attn/q/kernel": P("fsdp", "tensor", None),
        "decoder/head/kernel": P("fsdp", "tensor"),
        "decoder/ln_f/scale": P(None),
    }
    moments = [
        x
        for x in jax.tree.leaves(state.opt_state, is_leaf=lambda x: hasattr(x, "mu"))
        if hasattr(x, "mu")
    ]
    for path, spec in expected.items():
        assert params[path].sharding.spec == spec, path
        for tree in (moments[0].mu, moments[0].nu):
            assert trees.flatten(tree)[path].sharding.spec == spec, path
    local = params["decoder/blocks/mlp/up/kernel"].addressable_shards[0].data.size
    assert local * 4 == params["decoder/blocks/mlp/up/kernel"].size


def test_every_parameter_of_the_released_model_has_one_rule():
    """A new parameter without a rule, or under two, must not slip in as replicated."""
    from qwenvl_jax.model import qwenvl
    from qwenvl_jax.model.config import ModelConfig

    shapes = jax.eval_shape(lambda r: qwenvl.init(ModelConfig.released(), r), jax.random.key(0))
    for path, leaf in trees.flatten(shapes).items():
        assert len(rules.spec_of(path)) == leaf.ndim, path


def test_constraints_survive_lowering():
    """Under the old `with mesh:` every activation constraint vanished without a word."""
    config, prepared = prepare((2, 2, 2))
    batch = packed_batch(np.random.default_rng(0))
    from qwenvl_jax.train.step import make_eval_step

    evaluate = jax.jit(make_eval_step(config.model, num_sources=2, chunk=16))
    state, frozen = trainer.start(config, prepared)
    with jax.set_mesh(prepared.mesh):
        text = evaluate.lower(state.params, frozen, batch).as_text()
    constraints = text.count("sdy.sharding_constraint") + text.count("@Sharding")
    assert constraints >= 4, "activation constraints were dropped"
    assert '{"data", "fsdp"}' in text or "devices=" in text


def test_one_compile_in_three_steps():
    """A weak type or a changed sharding after the first step would compile again."""
    config, prepared = prepare((1, 4, 2))
    evaluate, (state, frozen) = prepared.eval_step, trainer.start(config, prepared)
    with jax.set_mesh(prepared.mesh):
        for number in range(3):
            batch = packed_batch(np.random.default_rng(number))
            batch = trainer.put(batch, rules.batch_sharding(prepared.mesh))
            state, _ = prepared.train_step(state, frozen, batch)  # compiled: refuses another layout
            evaluate(state.params, frozen, batch)
    assert evaluate._cache_size() == 1


def test_two_logical_axes_on_one_mesh_axis_are_refused():
    """GSPMD would raise far from the cause, or replicate."""
    table = dict(rules.MESH_AXES, embed="tensor")
    with pytest.raises(ValueError, match="a mesh axis twice"):
        rules.spec_of("decoder/head/kernel", table)


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        ((1, 1, 8), "config.mesh.tensor=8 does not divide config.model.vit.heads=4"),
        ((3, 1, 1), "config.data.global_rows=8"),
        ((1, 5, 1), "config.data.global_rows=8"),
    ],
)
def test_sizes_that_do_not_fit_are_named(mesh, message):
    with pytest.raises(ValueError, match=message):
        prepare(mesh)


def test_rows_that_share_slots_stay_on_one_device():
    """Split over two devices, a group's images would have to travel."""
    optim, mesh = optim_config(accumulation=2), MeshConfig(2, 1, 1)
    config = TrainConfig(seed=0, model=toy_model(), optim=optim, mesh=mesh)
    batch = sharing(packed_batch(np.random.default_rng(0)), 4)
    devices = jax.devices()[:2]
    named = r"slot_turns = 4 rows; nearest that do: \[16\]; or config.optim.accumulation of \[1\]"
    with pytest.raises(ValueError, match=named):
        program.prepare(config, shapes_of(batch), num_sources=2, devices=devices)
    # With two turns one microbatch would be refused as well: it is not proposed.
    given = dict(num_sources=2, group_slots=(4, 3), devices=devices)
    with pytest.raises(ValueError, match=r"nearest that do: \[16\]$"):
        program.prepare(config, shapes_of(batch), **given)


def test_turns_that_do_not_divide_the_microbatches_are_named():
    """Rows would be computed with the slots of others, and lose pictures."""
    config = TrainConfig(seed=0, model=toy_model(), optim=optim_config(accumulation=3))
    sizes = dict(rows=12, row_length=32, images=12)
    config.check_batch(turns=3, **sizes)
    with pytest.raises(
        ValueError, match="slot_turns=2 does not divide config.optim.accumulation=3"
    ):
        config.check_batch(turns=2, **sizes)


def test_a_dim_that_does_not_divide_is_named():
    from qwenvl_jax.parallel.mesh import make_mesh

    mesh = make_mesh(MeshConfig(1, 8, 1), jax.devices())
    shapes = {"decoder": {"embedding": jax.ShapeDtypeStruct((10, 12), jnp.float32)}}
    with pytest.raises(ValueError, match=r"config.mesh.fsdp=8 does not divide dim 1 \(size 12\)"):
        rules.parameter_shardings(mesh, shapes)


def test_unrolled_layers_read_a_frozen_vit_layer_by_layer():
    """Stage 3's: it comes back in stacks too, bit for bit, and what is trained is not among it."""
    given = dict(trainable=r"(adapter|decoder)/.*")
    config, prepared = prepare((2, 2, 2), toy_model(scan_layers=False), **given)
    got, frozen = curve(config, prepared)
    assert np.isfinite(got).all() and set(frozen) == {"vit"}
    assert frozen["vit"]["blocks"]["2"]["mlp"]["up"]["kernel"].sharding.spec == P("fsdp", "tensor")
    scanned, there = prepare((2, 2, 2), **given)
    wanted, stacks = curve(scanned, there)
    np.testing.assert_allclose(got, wanted, rtol=2e-5)
    stored = trees.flatten(prepared.to_store(frozen))
    for path, leaf in trees.flatten(stacks).items():
        np.testing.assert_array_equal(stored[path], leaf, err_msg=path)


@dataclasses.dataclass(frozen=True)
class OfSlice:
    """Where a TPU of one of several slices says that it is."""

    id: int
    slice_index: int
    process_index: int
    platform: str = "cpu"
    device_kind: str = "cpu"


def test_slices_are_parts_of_data():
    """Weights gathered, or products summed, over the network between slices would take longer than
    the step; in one mesh JAX refuses devices of several.
    """
    devices = [OfSlice(n, n // 8, n // 4) for n in range(16)]
    placed = place((4, 2, 2), devices)
    assert placed.shape == (4, 2, 2)
    assert {device.id for device in placed.flat} == set(range(16))
    for part, slice_index in zip(placed, (0, 0, 1, 1), strict=True):
        assert {device.slice_index for device in part.flat} == {slice_index}
    with pytest.raises(ValueError, match=r"data=1 is no multiple of the 2 slices.*nearest: \[2\]"):
        place((1, 8, 2), devices)
