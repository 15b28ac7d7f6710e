"""If these break, what devices send each other is counted twice, not at all or on a wrong axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from launch.plan import collectives, hlo, traffic
from qwenvl_jax.parallel.mesh import MeshConfig, make_mesh


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
    (found,) = collectives.find(hlo.parse(compiled.as_text()), dict(mesh.shape))
    assert (found.kind, found.axes) == ("all-reduce", name)
    assert found.sent == 2 * (ways - 1) / ways * 4000


def test_a_sum_of_which_a_part_is_left():
    """Where a TPU adds gradients up and keeps a device's part, the two are one fusion; counted as
    a whole sum it sent twice as much.
    """
    text = """
HloModule jit_part

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%all-reduce-scatter.1 (input: f32[64]) -> f32[16] {
  %input = f32[64]{0} parameter(0)
  %total = f32[64]{0} all-reduce(%input), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%add
  %zero = s32[] constant(0)
  ROOT %part = f32[16]{0} dynamic-slice(%total, %zero), dynamic_slice_sizes={16}
}

ENTRY %main (x: f32[64]) -> f32[16] {
  %x = f32[64]{0} parameter(0)
  ROOT %kept = f32[16]{0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
}
"""
    (found,) = collectives.find(hlo.parse(text), {"data": 1, "fsdp": 4, "tensor": 1})
    assert (found.kind, found.axes, found.sent) == ("reduce-scatter", "fsdp", 3 / 4 * 64 * 4)


# Four slices of two chips add up [8, 128] in each of three rounds, and gather one part each.
SLICES = """
HloModule jit_slices, is_scheduled=true

%cond (p.0: (s32[], bf16[8,128])) -> pred[] {
  %limit = s32[] constant(3)
  %p.0 = (s32[], bf16[8,128]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p.0), index=0
  ROOT %lt = pred[] compare(%i, %limit), direction=LT
}

%body (p.1: (s32[], bf16[8,128])) -> (s32[], bf16[8,128]) {
  %p.1 = (s32[], bf16[8,128]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%p.1), index=0
  %part = bf16[8,128]{1,0} get-tuple-element(%p.1), index=1
  %first = token[] after-all()
  %in = (bf16[8,128]{1,0}, u32[], token[]) recv(%first), channel_id=1, is_host_transfer=true, \
frontend_attributes={_xla_megascale_target="{1,2,3,4}x{0:1}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %out = (bf16[8,128]{1,0}, u32[], token[]) send(%part, %first), channel_id=2, \
is_host_transfer=true, frontend_attributes={_xla_megascale_reduce_operation="SUM",\
_xla_megascale_target="{1,2,3,4}x{0:1}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %gone = token[] send-done(%out), channel_id=2, is_host_transfer=true
  %come = (bf16[8,128]{1,0}, token[]) recv-done(%in), channel_id=1, is_host_transfer=true
  %sum = bf16[8,128]{1,0} get-tuple-element(%come), index=0
  ROOT %next = (s32[], bf16[8,128]{1,0}) tuple(%i.1, %sum)
}

ENTRY %main (part: bf16[8,128]) -> (s32[], bf16[8,128]) {
  %part.1 = bf16[8,128]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], bf16[8,128]{1,0}) tuple(%zero, %part.1)
  %first.1 = token[] after-all()
  %to = (bf16[8,128]{1,0}, u32[], token[]) send(%part.1, %first.1), channel_id=4, \
is_host_transfer=true, frontend_attributes={_xla_megascale_target="{1,2,3,4}x{0:1}",\
_xla_megascale_transfer_type="ALL_GATHER"}
  %away = token[] send-done(%to), channel_id=4, is_host_transfer=true
  %other = (bf16[8,128]{1,0}, u32[], token[]) send(%part.1, %first.1), channel_id=5, \
is_host_transfer=true
  %told = token[] send-done(%other), channel_id=5, is_host_transfer=true
  ROOT %loop = (s32[], bf16[8,128]{1,0}) while(%start), condition=%cond, body=%body
}
"""


def test_what_slices_send_each_other():
    """By their hosts, which is no collective in a TPU's program: a plan of two slices once had the
    network between them for nothing. What goes to a host for other ends is none of it.
    """
    program, part = hlo.parse(SLICES), 8 * 128 * 2
    found = collectives.find(program, {"data": 4, "fsdp": 2, "tensor": 1})
    table = {(c.kind, c.axes, c.group): c.sent for c in found}
    assert table == {
        ("all-reduce", "data", (0, 2, 4, 6)): 3 * 2 * 3 / 4 * part,
        ("all-gather", "data", (0, 2, 4, 6)): 3 * part,
    }
    compared = 4 + 4 + 1  # of each round, beside a part that is read and one that is written
    assert traffic.memory_bytes(program) == 2 * part + 3 * (2 * part + compared)
    with pytest.raises(ValueError, match="out: between which slices"):
        collectives.find(hlo.parse(SLICES.replace("{1,2,3,4}x", "")), {"data": 4, "fsdp": 2})


# A step of two scans, as where microbatches differ in their image slots: each gathers the same
# weight, ahead of time, on one channel; in the second scan a ring sends two parts on another.
SCANS = """
HloModule jit_scans, is_scheduled=true

%start.1 (s.1: f32[8]) -> f32[16] {
  %s.1 = f32[8]{0} parameter(0)
  ROOT %g.1 = f32[16]{0} all-gather(%s.1), channel_id=7, replica_groups={{0,1}}, dimensions={0}
}

%middle.1 (s.2: f32[8], m: f32[4]) -> f32[4] {
  %s.2 = f32[8]{0} parameter(0)
  %m = f32[4]{0} parameter(1)
  %g.2 = f32[16]{0} all-gather(%s.2), channel_id=7, replica_groups={{0,1}}, dimensions={0}
  ROOT %m.2 = f32[4]{0} add(%m, %m)
}

%start.2 (s.3: f32[8]) -> f32[16] {
  %s.3 = f32[8]{0} parameter(0)
  ROOT %g.3 = f32[16]{0} all-gather(%s.3), channel_id=7, replica_groups={{0,1}}, dimensions={0}
}

%first (p.1: f32[8], q.1: f32[4]) -> f32[16] {
  %p.1 = f32[8]{0} parameter(0)
  %q.1 = f32[4]{0} parameter(1)
  %begun = f32[16]{0} fusion(%p.1), kind=kCustom, calls=%start.1
  %work = f32[4]{0} fusion(%p.1, %q.1), kind=kLoop, calls=%middle.1
  ROOT %kept.1 = f32[16]{0} copy(%begun)
}

%second (p.2: f32[8]) -> f32[16] {
  %p.2 = f32[8]{0} parameter(0)
  %left = f32[8]{0} collective-permute(%p.2), channel_id=1, source_target_pairs={{0,1},{1,0}}
  %right = f32[8]{0} collective-permute(%p.2), channel_id=1, source_target_pairs={{1,0},{0,1}}
  ROOT %begun.2 = f32[16]{0} fusion(%p.2), kind=kCustom, calls=%start.2
}

ENTRY %main (x: f32[8], y: f32[4]) -> f32[16] {
  %x = f32[8]{0} parameter(0)
  %y = f32[4]{0} parameter(1)
  %one = f32[16]{0} call(%x, %y), to_apply=%first
  ROOT %two = f32[16]{0} call(%x), to_apply=%second
}
"""


def test_a_channel_is_used_again():
    """What is under way stands in several fusions and is sent once; in another scan the same
    channel sends again. By channels alone a step of two scans had half of its sums, and of a ring
    one part.
    """
    found = collectives.find(hlo.parse(SCANS), {"data": 1, "fsdp": 2, "tensor": 1})
    assert sorted((c.kind, c.sent) for c in found) == [
        ("all-gather", 32.0), ("all-gather", 32.0),
        ("collective-permute", 32.0), ("collective-permute", 32.0),
    ]  # fmt: skip
