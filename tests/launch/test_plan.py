"""If these break, a user books a pod on wrong figures: work counted once that runs 48 times,
traffic on the wrong axis, a step that does not fit.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from configs import stage1
from launch.plan import chips, cost, hlo, memory, report
from launch.plan.analytic import hardware_flops
from qwenvl_jax import settings
from qwenvl_jax.batch import Batch
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.parallel.mesh import AXES, MeshConfig, make_mesh
from qwenvl_jax.train import program
from qwenvl_jax.train.config import TrainConfig
from qwenvl_jax.train.flops import ideal_step_flops
from qwenvl_jax.train.loss import token_losses
from qwenvl_jax.train.optim import OptimConfig

# Lines of a TPU's program: its matmuls are convolutions. x[21,256,1664] by w[1664,3,16,104]; then
# queries by keys, [21,16,256,104] x [21,16,256,104], where images and heads are dilated windows.
TPU = """
HloModule jit_step, is_scheduled=true

%cond (p.0: (s32[], bf16[21,256,1664])) -> pred[] {
  %limit = s32[]{:T(128)} constant(48)
  %p.0 = (s32[]{:T(128)}, bf16[21,256,1664]{2,1,0:T(8,128)(2,1)S(1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p.0), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
}

%body (p.1: (s32[], bf16[21,256,1664])) -> (s32[], bf16[21,256,1664]) {
  %p.1 = (s32[]{:T(128)}, bf16[21,256,1664]{2,1,0:T(8,128)(2,1)S(1)}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%p.1), index=0
  %x = bf16[21,256,1664,1,1]{4,3,2,1,0:T(8,128)(2,1)} copy(%p.1)
  %w = bf16[1664,3,16,104,1]{4,3,2,1,0:T(8,128)(2,1)} copy(%p.1)
  %q = bf16[21,256,16,104]{3,2,1,0:T(8,128)(2,1)} copy(%p.1)
  %k = bf16[21,256,16,104]{3,2,1,0:T(8,128)(2,1)} copy(%p.1)
  %qkv = bf16[21,256,3,16,104]{1,4,3,2,0:T(8,128)(2,1)} convolution(%x, %w), \
window={size=1x3x16 pad=0_0x2_2x15_15 rhs_reversal=0x1x1}, dim_labels=0bf12_i12o0->0b12f
  %scores = f32[21,16,256,256]{2,3,1,0:T(8,128)} convolution(%q, %k), \
window={size=21x16 stride=20x15 lhs_dilate=21x16}, dim_labels=0b1f_0o1i->01bf
  %blocks = s8[1,2,2]{2,1,0} copy(%p.1)
  %row = bf16[3,32,2048,128]{3,2,1,0:T(8,128)(2,1)} copy(%p.1)
  %splash_mha_fwd_segmented_residuals.2 = (f32[3,1024,128]{2,1,0}, bf16[3,32,2048,128]{3,2,1,0}) \
custom-call(%blocks, %blocks, %row, %row, %row), custom_call_target="tpu_custom_call", \
frontend_attributes={kernel_metadata={
"xprof_metadata":"{}"
}}, metadata={op_name="attn"}
  ROOT %out = (s32[]{:T(128)}, bf16[21,256,1664]{2,1,0:T(8,128)(2,1)S(1)}) tuple(%i.1, %x)
}

ENTRY %main (a: bf16[21,256,1664]) -> bf16[21,256,1664] {
  %a = bf16[21,256,1664]{2,1,0:T(8,128)(2,1)} parameter(0)
  %zero = s32[]{:T(128)} constant(0)
  %start = (s32[]{:T(128)}, bf16[21,256,1664]{2,1,0:T(8,128)(2,1)S(1)}) tuple(%zero, %a)
  %loop = (s32[]{:T(128)}, bf16[21,256,1664]{2,1,0:T(8,128)(2,1)S(1)}) while(%start), \
condition=%cond, body=%body
  %gathered = bf16[2688,256,1664]{2,1,0:T(8,128)(2,1)} all-gather(%a), channel_id=1, \
replica_groups=mesh['axis_0'=128,'axis_1'=1,'axis_2'=1,'axis_3'=2], \
device_ids=([2,128]T(1,0)) {'axis_0'}, dimensions={0}
  ROOT %end = bf16[21,256,1664]{2,1,0:T(8,128)(2,1)} get-tuple-element(%loop), index=1
}
"""


# A loop that stacks 32 rows of 8 floats; one fusion makes a row and puts it into its place.
STACK = """
HloModule jit_stack

%fused (f.0: f32[8], f.1: f32[32,8], f.2: s32[]) -> (f32[8], f32[32,8]) {
  %f.0 = f32[8]{0} parameter(0)
  %f.1 = f32[32,8]{1,0} parameter(1)
  %f.2 = s32[] parameter(2)
  %twice = f32[8]{0} add(%f.0, %f.0)
  %row = f32[1,8]{1,0} bitcast(%twice)
  %zero = s32[] constant(0)
  %stack = f32[32,8]{1,0} dynamic-update-slice(%f.1, %row, %f.2, %zero)
  ROOT %both = (f32[8]{0}, f32[32,8]{1,0}) tuple(%twice, %stack)
}

%cond (p.0: (s32[], f32[8], f32[32,8])) -> pred[] {
  %limit = s32[] constant(32)
  %p.0 = (s32[], f32[8]{0}, f32[32,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p.0), index=0
  ROOT %lt = pred[] compare(%i, %limit), direction=LT
}

%body (p.1: (s32[], f32[8], f32[32,8])) -> (s32[], f32[8], f32[32,8]) {
  %p.1 = (s32[], f32[8]{0}, f32[32,8]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%p.1), index=0
  %x = f32[8]{0} get-tuple-element(%p.1), index=1
  %rows = f32[32,8]{1,0} get-tuple-element(%p.1), index=2
  %made = (f32[8]{0}, f32[32,8]{1,0}) fusion(%x, %rows, %i.1), kind=kLoop, calls=%fused
  %x.1 = f32[8]{0} get-tuple-element(%made), index=0
  %rows.1 = f32[32,8]{1,0} get-tuple-element(%made), index=1
  ROOT %next = (s32[], f32[8]{0}, f32[32,8]{1,0}) tuple(%i.1, %x.1, %rows.1)
}

ENTRY %main (a: (s32[], f32[8], f32[32,8])) -> (s32[], f32[8], f32[32,8]) {
  %a = (s32[], f32[8]{0}, f32[32,8]{1,0}) parameter(0)
  ROOT %loop = (s32[], f32[8]{0}, f32[32,8]{1,0}) while(%a), condition=%cond, body=%body
}
"""


@pytest.mark.parametrize("kept", [True, False])
def test_a_stack_is_written_row_by_row(kept):
    """Not whole in every round, which made a step look twice as slow; and it is what is kept for
    the way back, whether its row comes alone out of its fusion or not.
    """
    text = STACK
    if not kept:
        text = STACK.replace("tuple(%twice, %stack)", "tuple(%twice, %f.1)")
    program = hlo.parse(text)
    fused = 32 + 4 + 32 + (32 if kept else 0 + 1024 + 1024)  # x, i; x.1 and the row
    compared = 4 + 4 + 1
    assert cost.memory_bytes(program) == 32 * (fused + compared)
    assert memory.kept_activations(program) == (32 * 8 * 4 if kept else 0)


@pytest.fixture(scope="module")
def tpu():
    return hlo.parse(TPU)


def test_matmuls_of_a_tpu(tpu):
    """48 times what stands in the loop: of the windows only what meets a real element, of the
    attention kernel's 2 x 2 blocks the three that are not above the diagonal.
    """
    projections, scores = 2 * 21 * 256 * 1664 * 3 * 1664, 2 * 21 * 16 * 256 * 256 * 104
    kernel = 2 * 2 * 3 * 32 * 2048 * 2048 * 128 * 3 / 4
    wanted = 48 * (projections + scores + kernel)
    assert cost.matmul_flops(tpu) == wanted


def test_a_collective_of_a_tpu(tpu):
    """Device ids run over data first, then fsdp: the gather is along fsdp."""
    (gather,) = cost.collectives(tpu, {"data": 2, "fsdp": 128, "tensor": 1})
    assert (gather.kind, gather.axes) == ("all-gather", "fsdp")
    assert gather.sent == 127 * 21 * 256 * 1664 * 2


def test_a_loop_without_a_limit_is_refused():
    """Its work would be counted once and believed."""
    with pytest.raises(ValueError, match="no single limit"):
        hlo.parse(TPU.replace("constant(48)", "parameter(1)"))


def test_a_loop_that_is_unrolled(tpu):
    """48 rounds in steps of 2 are 24: counted as 48, a sound program seemed to repeat its work."""
    body = (
        "  ROOT %out = (s32[]{:T(128)}, bf16[21,256,1664]{2,1,0:T(8,128)(2,1)S(1)}) tuple(%i.1, %x)"
    )
    assert body in TPU
    twice = """  %two = s32[]{:T(128)} constant(2)
  %next = s32[]{:T(128)} add(%i.1, %two)
""" + body.replace("%i.1", "%next")
    assert cost.matmul_flops(hlo.parse(TPU.replace(body, twice))) == cost.matmul_flops(tpu) / 2


def test_an_asynchronous_copy_is_read_and_written_once():
    """Its start and its end stand in the program; what lies on the chip costs no memory traffic."""
    text = """
HloModule jit_copy

ENTRY %main (a: f32[1024]) -> f32[1024] {
  %a = f32[1024]{0:T(1024)} parameter(0)
  %in = (f32[1024]{0:T(1024)S(1)}, f32[1024]{0:T(1024)}, u32[]{:S(2)}) copy-start(%a)
  %on = f32[1024]{0:T(1024)S(1)} copy-done(%in)
  %out = (f32[1024]{0:T(1024)}, f32[1024]{0:T(1024)S(1)}, u32[]{:S(2)}) copy-start(%on)
  ROOT %b = f32[1024]{0:T(1024)} copy-done(%out)
}
"""
    assert cost.memory_bytes(hlo.parse(text)) == 2 * 4096


def test_a_loop_over_what_is_labelled():
    """A limit that the program computes is what it is said to be: 3 chunks of 8 positions, twice
    by the head of [16, 40] where it is frozen, four times where it is trained.
    """
    shapes = [
        jax.ShapeDtypeStruct((2, 24, 16), jnp.float32),
        jax.ShapeDtypeStruct((16, 40), jnp.float32),
        jax.ShapeDtypeStruct((2, 24), jnp.int32),
    ]
    for trained, passes in (((0,), 2), ((0, 1), 4)):
        total = lambda h, w, t: token_losses(h, w, t, chunk=8).sum()  # noqa: E731
        text = jax.jit(jax.grad(total, trained)).lower(*shapes).compile().as_text()
        assert cost.matmul_flops(hlo.parse(text, rounds=3)) == passes * 3 * 2 * 8 * 16 * 40


def test_matmuls_of_nested_loops():
    """Against a count by hand: 3 x 5 products of [4, 8] by [8, 8], and one."""

    def nested(x, w):
        inner = lambda x, _: (x @ w, None)  # noqa: E731
        outer = lambda x, _: (jax.lax.scan(inner, x, None, length=5)[0], None)  # noqa: E731
        return jax.lax.scan(outer, x, None, length=3)[0] @ w

    compiled = jax.jit(nested).lower(jnp.ones((4, 8)), jnp.ones((8, 8))).compile()
    assert cost.matmul_flops(hlo.parse(compiled.as_text())) == 16 * 2 * 4 * 8 * 8


def test_matmuls_of_a_branch():
    """What windowed layers and global ones cost: of four rounds one takes the side of two products
    of [4, 8] by [8, 8], the others that of one.
    """

    def rounds(x, w, which):
        def one(x, long):
            return jax.lax.cond(long, lambda x: x @ w @ w, lambda x: x @ w, x), None

        return jax.lax.scan(one, x, which)[0]

    shapes = jnp.ones((4, 8)), jnp.ones((8, 8)), jnp.ones(4, bool)
    text = jax.jit(rounds).lower(*shapes).compile().as_text()
    product = 2 * 4 * 8 * 8
    assert cost.matmul_flops(hlo.parse(text, taken=0.25)) == (3 * 1 + 1 * 2) * product
    assert cost.matmul_flops(hlo.parse(text)) == 4 * 3 * product


def test_a_kernel_of_one_row_has_no_batch(tpu):
    """The compiler leaves a batch of 1 out, as stage 2 has on 256 chips."""
    one = TPU.replace("bf16[3,32,2048,128]{3,2,1,0", "bf16[32,2048,128]{2,1,0")
    less = cost.matmul_flops(tpu) - cost.matmul_flops(hlo.parse(one))
    row = 48 * 2 * 2 * 32 * 2048**2 * 128 * 3 / 4  # of 2 x 2 blocks three are run
    assert less == 2 * row


def test_a_kernel_that_is_not_known_is_refused():
    """Its work would be missing from the plan."""
    program = hlo.parse(TPU.replace("splash_mha_fwd", "other"))
    with pytest.raises(ValueError, match="how much it computes"):
        cost.matmul_flops(program)


@pytest.mark.parametrize(
    ("axes", "sizes", "name"),
    [
        (("data",), (4, 2, 1), "data"),
        (("fsdp",), (4, 2, 1), "fsdp"),
        (("data", "fsdp"), (2, 2, 2), "data+fsdp"),
        (("tensor",), (2, 2, 2), "tensor"),
    ],
)
def test_bytes_of_an_all_reduce(axes, sizes, name):
    """A sum over a mesh axis: 2 (n - 1) / n of the array leave each device, over that axis."""
    mesh = make_mesh(MeshConfig(*sizes))
    ways = int(np.prod([mesh.shape[axis] for axis in axes]))
    total = jax.jit(
        lambda x: jnp.sum(x, axis=0),
        in_shardings=NamedSharding(mesh, PartitionSpec(axes)),
        out_shardings=NamedSharding(mesh, PartitionSpec()),
    )
    compiled = total.lower(jax.ShapeDtypeStruct((ways, 1000), jnp.float32)).compile()
    (found,) = cost.collectives(hlo.parse(compiled.as_text()), dict(mesh.shape))
    assert (found.kind, found.axes) == ("all-reduce", name)
    assert found.sent == 2 * (ways - 1) / ways * 4000


def shapes_of(rows, length, slots, side):
    text = jax.ShapeDtypeStruct((rows, length), np.int32)
    images = jax.ShapeDtypeStruct((rows, slots, side, side, 3), np.uint8)
    mask = jax.ShapeDtypeStruct((rows, slots), np.bool_)
    return Batch(text, text, text, text, text, images, mask)


@functools.cache
def prepared(trainable, remat):
    """A small stage of 16 rows, 2 microbatches and 8 devices: (model, compiled, its program)."""
    model = dataclasses.replace(ModelConfig.tiny(56), remat=remat)
    optim = stage1.get_config().optim.to_dict() | dict(trainable=trainable, accumulation=2)
    config = TrainConfig(0, model, settings.build(OptimConfig, optim, "config.optim"),
                         MeshConfig(2, 4, 1), loss_chunk=16)  # fmt: skip
    made = program.prepare(config, shapes_of(16, 64, 2, 56), num_sources=2)
    return model, made, hlo.parse(made.train_step.as_text(), rounds=ROUNDS)


STAGE1, STAGE2 = r"(vit|adapter)/.*", r".*"
TOWERS = {STAGE1: {"vit", "adapter"}, STAGE2: {"vit", "adapter", "decoder"}}
ROUNDS = 1  # chunks of 16 in a microbatch's row of 64: 16 of its positions are labelled


@pytest.mark.parametrize(
    ("trainable", "remat"), [(STAGE1, "dots"), (STAGE2, "dots"), (STAGE2, "full")]
)
def test_the_count_of_a_step(trainable, remat):
    """The compiled step of a small model against its sizes: within 2 %, or one of both counts, or
    the step, does work that nobody knows of.
    """
    model, _, compiled = prepared(trainable, remat)
    wanted = hardware_flops(
        model, TOWERS[trainable], rows=16, length=64, images=32, head_positions=256, splash=False
    )
    assert 8 * cost.matmul_flops(compiled) == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize(("trainable", "most"), [(STAGE1, 1.10), (STAGE2, 1.15)])
def test_work_that_is_not_needed_is_not_done(trainable, most):
    """Of a step that repeats no product with a weight, in rows of two samples of 32 positions. The
    head on all positions, a frozen weight's gradient or blocks computed twice are above it.
    """
    model, _, compiled = prepared(trainable, "dots")
    ideal = ideal_step_flops(
        model, TOWERS[trainable], images=32.0, tokens=1024.0, labelled=256.0, context=16.0
    )
    assert 1 < 8 * cost.matmul_flops(compiled) / ideal <= most


def of_decoder(trainable, kinds):
    _, made, compiled = prepared(trainable, "dots")
    found = cost.collectives(compiled, dict(made.mesh.shape))
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
    """The slowest of compute, memory and links; utilisation counts ideal work alone."""
    chip = chips.Chip(flops=100.0, hbm=1000, hbm_rate=10.0, ici_rate=5.0)
    sizes = dict(zip(AXES, (2, 1, 1), strict=True))
    made = report.make_plan(
        chips.Topology("x", chip, [0, 1]), memory={"parameters": 901}, hardware=400.0,
        analytic=800.0, ideal=600.0, traffic=30.0,
        found=[cost.Collective("all-gather", "data", 25.0, 1.0, "")], images=10, steps=17_280,
        mesh=sizes, remat="none", accumulation=1,
    )  # fmt: skip
    assert (made.step_seconds, made.bound) == (5.0, "links")
    assert made.mfu == pytest.approx(300 / 100 / 5)
    assert made.images_per_second == 1.0
    assert (made.stage_days, made.stage_chip_hours) == (1.0, 48.0)
    assert not made.fits and "DOES NOT FIT" in report.text(made)


@pytest.mark.parametrize(
    ("name", "near"),
    [("v5e:3x7", "v5e:2x6, v5e:4x8"), ("v5p:8x8", "v5p:8x8x1"), ("v6e:4x4x4", "v6e:4x4")],
)
def test_shapes_that_no_slice_has(name, near):
    """libtpu's own words for them name its bounds, not what to type instead."""
    with pytest.raises(ValueError, match=f"nearest: {near}$"):
        chips.get_topology(name)


@pytest.mark.parametrize("name", ["v7:2x2", "v5e", "v5e:16", "v5e:0x16x2x2", "h100:8x8"])
def test_topologies_that_do_not_exist(name):
    """Refused by name before libtpu is asked, which may not be installed."""
    with pytest.raises(ValueError, match="expected CHIP:SHAPE"):
        chips.get_topology(name)
