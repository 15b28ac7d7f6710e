"""If these break, the plan of a GPU is wrong: work uncounted, time of links hidden or invented."""

import pytest
from jax.experimental import topologies

from launch.plan import chips, hlo, matmuls, serial, traffic

# Lines of a GPU's program: products are cuBLAS calls, one adds to what is there; attention of a
# packed row and its way back are cuDNN calls; a gather is under way while the first product runs.
PROGRAM = """
HloModule jit_step, is_scheduled=true

%fused (p.0: bf16[4096,8], p.1: s32[16]) -> bf16[16,8] {
  %p.0 = bf16[4096,8]{1,0} parameter(0)
  %p.1 = s32[16]{0} parameter(1)
  ROOT %rows = bf16[16,8]{1,0} gather(%p.0, %p.1), offset_dims={1}, slice_sizes={1,8}
}

ENTRY %main (a: bf16[64,32], w: bf16[32,8], q: bf16[3,2048,32,104]) -> f32[32,8] {
  %a = bf16[64,32]{1,0} parameter(0)
  %w = bf16[32,8]{1,0} parameter(1)
  %q = bf16[3,2048,32,104]{3,2,1,0} parameter(2)
  %sums = f32[32,8]{1,0} parameter(3)
  %table = bf16[4096,8]{1,0} parameter(4)
  %ids = s32[16]{0} parameter(5)
  %start = (bf16[32,8]{1,0}, bf16[128,8]{1,0}) all-gather-start(%w), channel_id=1, \
replica_groups={{0,1,2,3}}, dimensions={0}
  %up = (bf16[64,8]{1,0}, s8[4194304]{0}) custom-call(%a, %w), \
custom_call_target="__cublas$lt$matmul", backend_config={"gemm_backend_config":{"beta":0,\
"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  %done = bf16[128,8]{1,0} all-gather-done(%start)
  %new = bf16[64,8]{1,0} get-tuple-element(%up), index=0
  %total = (f32[32,8]{1,0}, s8[4194304]{0}) custom-call(%a, %new, %sums), \
custom_call_target="__cublas$lt$matmul", backend_config={"gemm_backend_config":{"beta":1,\
"dot_dimension_numbers":{"lhs_contracting_dimensions":["0"],"rhs_contracting_dimensions":["0"]}}}
  %attn = (bf16[3,32,2048,104]{3,1,2,0}, f32[48,32,2048]{2,1,0}, u8[0]{0}) \
custom-call(%q, %q, %q), custom_call_target="__cudnn$fmhaSoftmax", operand_layout_constraints={\
bf16[3,2048,32,104]{3,2,1,0}, bf16[3,2048,32,104]{3,2,1,0}, bf16[3,2048,32,104]{3,2,1,0}}, \
backend_config={"cudnn_fmha_backend_config": {"mask_type": "PADDING_CAUSAL"}}
  %back = (bf16[3,32,256,104]{3,1,2,0}, u8[0]{0}) custom-call(%q, %q, %q), \
custom_call_target="__cudnn$fmhaSoftmaxBackward", operand_layout_constraints={\
bf16[3,256,32,104]{3,2,1,0}, bf16[3,256,32,104]{3,2,1,0}, bf16[3,256,32,104]{3,2,1,0}}, \
backend_config={"cudnn_fmha_backend_config": {"mask_type": "NO_MASK"}}
  %taken = bf16[16,8]{1,0} fusion(%table, %ids), kind=kCustom, calls=%fused
  ROOT %end = f32[32,8]{1,0} get-tuple-element(%total), index=0
}
"""


@pytest.fixture(scope="module")
def program():
    return hlo.parse(PROGRAM)


def test_calls_of_libraries_are_counted(program):
    """Two products of 64 x 32 x 8; two of queries by keys forth, of which a causal row of 16 blocks
    has 17 of 32, five back, without a mask; heads of 104 are padded to 128.
    """
    products = 2 * 2 * 64 * 32 * 8
    forth = 2 * 2 * 3 * 32 * 2048**2 * 128 * 17 / 32
    back = 5 * 2 * 3 * 32 * 256**2 * 128
    assert matmuls.flops(program) == products + forth + back


def test_a_call_that_is_not_known_is_refused():
    """Its work would be missing from the plan."""
    other = hlo.parse(PROGRAM.replace("__cudnn$fmhaSoftmax", "__cudnn$convForward"))
    with pytest.raises(ValueError, match="of __cudnn.convForward: how much it computes"):
        matmuls.flops(other)


def test_rows_that_are_taken_from_a_table_are_what_is_read(program):
    """The whole table seemed to be read in every microbatch, a gigabyte of it."""
    taken = program.computations["main"]["taken"]
    read = traffic.bytes_of(taken, program.computations["main"], program)
    assert read == 16 * 8 * 2 + 16 * 4 + 16 * 8 * 2  # rows, ids, the result


def topology(per_host: int, **rates: float) -> chips.Topology:
    peaks = dict.fromkeys(("flops", "hbm_rate", "link_rate", "network_rate"), 1e30)
    return chips.Topology("h100", chips.Chip(**dict(hbm=1) | peaks | rates), [None] * 4, per_host)


MESH = {"data": 1, "fsdp": 4, "tensor": 1}
SENT = 3 * 32 * 8 * 2  # by the gather: a device's part to three others, or on their behalf


@pytest.mark.parametrize(("kernel", "wait"), [(0.25, 0.75), (3.0, 0.0)])
def test_a_step_waits_for_what_kernels_do_not_cover(program, kernel, wait):
    """The gather takes a second, what runs meanwhile `kernel` seconds: counted whole it would hide
    what the scheduler achieves, not at all what it does not.
    """
    flops = 2 * 64 * 32 * 8 / kernel
    found = serial.serial(program, topology(4, flops=flops, link_rate=SENT), MESH)
    assert found.waits == pytest.approx(wait)
    assert found.kernels == pytest.approx(matmuls.flops(program) / flops)


TWO = """
HloModule jit_step, is_scheduled=true

ENTRY %main (a: f32[1]) -> f32[4] {
  %a = f32[1]{0} parameter(0)
  %first = (f32[1]{0}, f32[4]{0}) all-gather-start(%a), replica_groups={{0,1,2,3}}, dimensions={0}
  %second = (f32[1]{0}, f32[4]{0}) all-gather-start(%a), replica_groups={{0,1,2,3}}, dimensions={0}
  %work = f32[4]{0} custom-call(%a), custom_call_target="other"
  %one = f32[4]{0} all-gather-done(%first)
  ROOT %two = f32[4]{0} all-gather-done(%second)
}
"""


def test_collectives_share_the_links():
    """Two that are under way at once take two seconds, of which a kernel of half a second covers
    half a one; a wait for the first is not waited again for the second.
    """
    given = topology(4, link_rate=3 * 4.0, hbm_rate=(4 + 16) / 0.5)
    found = serial.serial(hlo.parse(TWO), given, MESH)
    assert (found.kernels, found.waits) == (0.5, 1.5)


def test_a_kernel_takes_as_long_as_its_slower_side(program):
    """Bytes of the calls and of the fusion, where those bound all of them."""
    found = serial.serial(program, topology(4, hbm_rate=1.0), MESH)
    assert found.kernels == traffic.memory_bytes(program) - 32 * 8 * 2 - 128 * 8 * 2  # the gather's


@pytest.mark.parametrize(
    ("group", "rate"),
    [
        ((0, 1, 2, 3), 450.0),
        ((0, 4), 50.0),
        ((0, 1, 2, 3, 4, 5, 6, 7), 200.0),
        ((2, 3, 6, 7), 100.0),
    ],
)
def test_hosts_are_joined_by_their_own_ports(group, rate):
    """Two hosts of four: within one by its links, across by a port for each member of a host."""
    given = topology(4, link_rate=450.0, network_rate=50.0)
    assert given.rate(group) == rate
    assert given._replace(linked=8).rate(group) == 450.0  # all on one host


def test_without_the_compiler_it_is_named(monkeypatch):
    """JAX's own words are that a topology is not implemented."""

    def missing(*_, **__):
        raise NotImplementedError("topology not implemented for cuda")

    monkeypatch.setattr(topologies, "get_topology_desc", missing)
    monkeypatch.setenv("XLA_FLAGS", "")
    with pytest.raises(ValueError, match="compiler for CUDA is not installed.*cuda-compiler"):
        chips.get_topology("h100:8")
    with pytest.raises(ValueError, match="no GPU"):
        chips.get_topology("h100:0x8")
    with pytest.raises(ValueError, match="GPUs have hosts, h100:2x8"):
        chips.get_topology("h100:8", slices=2)
