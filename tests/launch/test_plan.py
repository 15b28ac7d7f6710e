"""If these break, a user books a pod on wrong figures: a step that does not fit, or one that does
what it need not do.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from configs import stage1
from launch.plan import chips, collectives, hlo, matmuls, memory, report
from launch.plan.analytic import hardware_flops
from qwenvl_jax import settings
from qwenvl_jax.batch import Batch
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.parallel.mesh import AXES, MeshConfig
from qwenvl_jax.train import program
from qwenvl_jax.train.config import TrainConfig
from qwenvl_jax.train.flops import ideal_step_flops
from qwenvl_jax.train.optim import OptimConfig


def shapes_of(rows, length, slots, side):
    text = jax.ShapeDtypeStruct((rows, length), np.int32)
    images = jax.ShapeDtypeStruct((rows, slots, side, side, 3), np.uint8)
    mask = jax.ShapeDtypeStruct((rows, slots), np.bool_)
    return Batch(text, text, text, text, text, images, mask)


@functools.cache
def prepared(trainable, remat, group_slots=(2,)):
    """A small stage of 16 rows, 2 microbatches and 8 devices: (model, compiled, its program)."""
    model = dataclasses.replace(ModelConfig.tiny(56), remat=remat)
    optim = stage1.get_config().optim.to_dict() | dict(trainable=trainable, accumulation=2)
    config = TrainConfig(0, model, settings.build(OptimConfig, optim, "config.optim"),
                         MeshConfig(2, 4, 1), loss_chunk=16)  # fmt: skip
    given = dict(num_sources=2, group_slots=group_slots)
    made = program.prepare(config, shapes_of(16, 64, 2, 56), **given)
    return model, made, hlo.parse(made.train_step.as_text(), rounds=ROUNDS)


STAGE1, STAGE2 = r"(vit|adapter)/.*", r".*"
TOWERS = {STAGE1: {"vit", "adapter"}, STAGE2: {"vit", "adapter", "decoder"}}
ROUNDS = 1  # chunks of 16 in a microbatch's row of 64: 16 of its positions are labelled


@pytest.mark.parametrize(
    ("trainable", "remat", "slots"),
    [
        (STAGE1, "dots", (2,)),
        (STAGE2, "dots", (2,)),
        (STAGE2, "full", (2,)),
        (STAGE2, "dots", (2, 1)),  # of the second microbatch's slots only one is computed
    ],
)
def test_the_count_of_a_step(trainable, remat, slots):
    """The compiled step of a small model against its sizes: within 2 %, or one of both counts, or
    the step, does work that nobody knows of.
    """
    model, _, compiled = prepared(trainable, remat, slots)
    wanted = hardware_flops(
        model,
        TOWERS[trainable],
        rows=16,
        length=64,
        images=16 * sum(slots) // len(slots),
        head_positions=256,
        kernel="dense",
    )
    assert 8 * matmuls.flops(compiled) == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize(("trainable", "most"), [(STAGE1, 1.10), (STAGE2, 1.15)])
def test_work_that_is_not_needed_is_not_done(trainable, most):
    """Of a step that repeats no product with a weight, in rows of two samples of 32 positions. The
    head on all positions, a frozen weight's gradient or blocks computed twice are above it.
    """
    model, _, compiled = prepared(trainable, "dots")
    ideal = ideal_step_flops(
        model, TOWERS[trainable], images=32.0, tokens=1024.0, labelled=256.0, context=16.0
    )
    assert 1 < 8 * matmuls.flops(compiled) / ideal <= most


@pytest.mark.parametrize(
    "towers", [{"vit", "adapter"}, {"vit", "adapter", "decoder"}, {"adapter", "decoder"}]
)
def test_no_step_does_less_than_the_ideal_one(towers):
    """Of the three stages at the released sizes: a frozen ViT whose backward pass counts as ideal
    let stage 3 seem faster than the chip. Rows of one sample, each position with a label.
    """
    model = dataclasses.replace(ModelConfig.released(), remat="none")
    sizes = dict(rows=4, length=2048, images=16)
    done = hardware_flops(model, towers, head_positions=4 * 2048, kernel="splash", **sizes)
    tokens = 4.0 * 2048
    ideal = ideal_step_flops(
        model, towers, images=16.0, tokens=tokens, labelled=tokens, context=1024.0
    )
    assert 1 <= done / ideal < 1.1


def of_decoder(trainable, kinds):
    _, made, compiled = prepared(trainable, "dots")
    found = collectives.find(compiled, dict(made.mesh.shape))
    return [c for c in found if c.kind in kinds and "decoder/" in c.name]


def test_what_a_frozen_decoder_sends():
    """It is gathered for its way forth and for its way back, in each of 2 microbatches; nothing of
    it is added up. A third gather, or gradients that nobody wants, would show.
    """
    width, layers = 256, 2
    weights = layers * (4 * width * width + 3 * width * 256) * 4
    gathers = of_decoder(STAGE1, {"all-gather"})
    assert 0 < sum(c.sent for c in gathers) <= 2 * 2 * weights * 3 / 4
    sums = {"all-reduce", "reduce-scatter"}
    assert of_decoder(STAGE2, sums) and not of_decoder(STAGE1, sums)


def test_kinds_of_memory_add_up():
    """What is listed is what the compiler asks for; parameters as the shardings split them."""
    _, made, compiled = prepared(STAGE2, "full")
    shapes = shapes_of(16, 64, 2, 56)
    batch = NamedSharding(made.mesh, PartitionSpec(("data", "fsdp")))
    known = memory.known_bytes(made.shapes, made.shardings, shapes, batch)
    kinds = memory.by_kind(made, known, compiled)
    stats = made.train_step.memory_analysis()
    total = stats.argument_size_in_bytes + stats.temp_size_in_bytes
    total += stats.output_size_in_bytes - stats.alias_size_in_bytes
    assert sum(kinds.values()) == total + stats.generated_code_size_in_bytes
    assert min(kinds.values()) >= 0
    state = known["parameters"] + known["moments"] + known["frozen parameters"] + known["batch"]
    assert state == pytest.approx(stats.argument_size_in_bytes, rel=0.01)


def test_what_bounds_a_step():
    """The slowest of compute, memory, links and network; utilisation counts ideal work alone."""
    chip = chips.Chip(flops=100.0, hbm=1000, hbm_rate=10.0, link_rate=5.0, network_rate=0.5)

    def made(*groups: tuple[int, ...]) -> report.Plan:
        return report.make_plan(
            chips.Topology("x", chip, [0, 1, 2, 3], linked=2), memory={"parameters": 901},
            hardware=400.0, analytic=1600.0, ideal=1200.0, traffic=30.0,
            found=[collectives.Collective("all-gather", "", 25.0, 1.0, "", g) for g in groups],
            images=20, steps=17_280, mesh=dict(zip(AXES, (2, 2, 1), strict=True)), remat="none",
            accumulation=1,
        )  # fmt: skip

    plan = made((0, 1))
    assert (plan.step_seconds, plan.bound) == (5.0, "links")
    assert plan.mfu == pytest.approx(300 / 100 / 5)
    assert plan.images_per_second == 1.0
    assert (plan.stage_days, plan.stage_chip_hours) == (1.0, 96.0)
    assert not plan.fits and "DOES NOT FIT" in report.text(plan)
    # Between slices by the network, at the same time; a collective of two chips of each has two
    # chips' shares of it.
    plan = made((0, 1), (0, 2), (0, 1, 2, 3))
    assert (plan.link_seconds, plan.network_seconds, plan.bound) == (5.0, 75.0, "network")


@pytest.mark.parametrize(
    ("name", "near"),
    [("v5e:3x7", "v5e:2x6, v5e:4x8"), ("v5p:8x8", "v5p:8x8x1"), ("v6e:4x4x4", "v6e:4x4")],
)
def test_shapes_that_no_slice_has(name, near):
    """libtpu's own words for them name its bounds, not what to type instead."""
    with pytest.raises(ValueError, match=f"nearest: {near}$"):
        chips.get_topology(name)


@pytest.mark.parametrize(
    "name", ["v7:2x2", "v5e", "v5e:16", "v5e:0x16x2x2", "h100:2x2x2", "a100:8"]
)
def test_topologies_that_do_not_exist(name):
    """Refused by name before a compiler is asked, which may not be installed."""
    with pytest.raises(ValueError, match="expected CHIP:SHAPE"):
        chips.get_topology(name)
