"""If these break, a compiled program is misread: work counted once that runs 48 times, stacks
read whole in every round.
"""

import jax
import jax.numpy as jnp
import pytest

from launch.plan import collectives, hlo, matmuls, memory, traffic
from qwenvl_jax.train.loss import token_losses

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

ENTRY %main (x: f32[8], rows: f32[32,8]) -> (s32[], f32[8], f32[32,8]) {
  %x = f32[8]{0} parameter(0)
  %rows = f32[32,8]{1,0} parameter(1)
  %zero = s32[] constant(0)
  %start = (s32[], f32[8]{0}, f32[32,8]{1,0}) tuple(%zero, %x, %rows)
  ROOT %loop = (s32[], f32[8]{0}, f32[32,8]{1,0}) while(%start), condition=%cond, body=%body
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
    fused = 32 + 4 + 32 + (32 if kept else 0)  # x, i; x.1 and the row; the stack goes through
    compared = 4 + 4 + 1
    assert traffic.memory_bytes(program) == 32 * (fused + compared)
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
    assert matmuls.flops(tpu) == wanted


def test_a_collective_of_a_tpu(tpu):
    """Device ids run over data first, then fsdp: the gather is along fsdp."""
    (gather,) = collectives.find(tpu, {"data": 2, "fsdp": 128, "tensor": 1})
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
    assert matmuls.flops(hlo.parse(TPU.replace(body, twice))) == matmuls.flops(tpu) / 2


def test_a_loop_that_begins_later(tpu):
    """Between slices the first round is moved ahead of the loop, which begins at 1, by way of a
    copy: counted from 0, a sound program had 3 % more work than its sizes say. One that begins
    nobody knows where is refused.
    """
    late = TPU.replace("%zero = s32[]{:T(128)} constant(0)", "%zero = s32[]{:T(128)} copy(%one)")
    assert late != TPU
    given = "  %one = s32[]{:T(128)} "
    later = late.replace("  %zero", f"{given}constant(1)\n  %zero")
    assert matmuls.flops(hlo.parse(later)) == pytest.approx(47 / 48 * matmuls.flops(tpu))
    with pytest.raises(ValueError, match="loop: what its counter begins with"):
        hlo.parse(late.replace("  %zero", f"{given}parameter(1)\n  %zero"))
    watched = "%i = s32[]{:T(128)} get-tuple-element(%p.0), index=0"
    with pytest.raises(ValueError, match="loop: what its condition looks at"):
        hlo.parse(TPU.replace(watched, "%i = s32[]{:T(128)} copy(%p.0)"))


@pytest.mark.parametrize("chip", ["S(1)", "S(3)"])
def test_an_asynchronous_copy_is_read_and_written_once(chip):
    """Its start and its end stand in the program; what lies on the chip, where a v4 has a memory
    more than the others, costs no memory traffic.
    """
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
    assert traffic.memory_bytes(hlo.parse(text.replace("S(1)", chip))) == 2 * 4096


def test_what_orders_a_transfer_has_no_bytes():
    """A token stands where a program hands values to its host; its size once ended the plan."""
    text = """
HloModule jit_send

ENTRY %main (a: f32[8]) -> token[] {
  %a = f32[8]{0} parameter(0)
  %first = token[] after-all()
  ROOT %sent = token[] outfeed(%a, %first), outfeed_shape=f32[8]{0}
}
"""
    assert traffic.memory_bytes(hlo.parse(text)) == 32


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
        assert matmuls.flops(hlo.parse(text, rounds=3)) == passes * 3 * 2 * 8 * 16 * 40


def test_matmuls_of_nested_loops():
    """Against a count by hand: 3 x 5 products of [4, 8] by [8, 8], and one."""

    def nested(x, w):
        inner = lambda x, _: (x @ w, None)  # noqa: E731
        outer = lambda x, _: (jax.lax.scan(inner, x, None, length=5)[0], None)  # noqa: E731
        return jax.lax.scan(outer, x, None, length=3)[0] @ w

    compiled = jax.jit(nested).lower(jnp.ones((4, 8)), jnp.ones((8, 8))).compile()
    assert matmuls.flops(hlo.parse(compiled.as_text())) == 16 * 2 * 4 * 8 * 8


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
    assert matmuls.flops(hlo.parse(text, taken=0.25)) == (3 * 1 + 1 * 2) * product
    assert matmuls.flops(hlo.parse(text)) == 4 * 3 * product


def test_a_kernel_of_one_row_has_no_batch(tpu):
    """The compiler leaves a batch of 1 out, as stage 2 has on 256 chips."""
    one = TPU.replace("bf16[3,32,2048,128]{3,2,1,0", "bf16[32,2048,128]{2,1,0")
    less = matmuls.flops(tpu) - matmuls.flops(hlo.parse(one))
    row = 48 * 2 * 2 * 32 * 2048**2 * 128 * 3 / 4  # of 2 x 2 blocks three are run
    assert less == 2 * row


def test_a_kernel_that_is_not_known_is_refused():
    """Its work would be missing from the plan."""
    program = hlo.parse(TPU.replace("splash_mha_fwd", "other"))
    with pytest.raises(ValueError, match="how much it computes"):
        matmuls.flops(program)
