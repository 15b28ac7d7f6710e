"""How long a program takes on a GPU: a kernel after the other, and what it waits for links."""

from typing import NamedTuple

from launch.plan import collectives, matmuls, traffic
from launch.plan.chips import Topology
from launch.plan.hlo import Instruction, Program, called


class Serial(NamedTuple):
    """Seconds of a step."""

    kernels: float  # each at the peak that bounds it, compute or memory
    waits: float  # of collectives, what the kernels between start and end do not cover

    @property
    def seconds(self) -> float:
        return self.kernels + self.waits


def serial(program: Program, topology: Topology, mesh: dict[str, int]) -> Serial:
    """Of a scheduled program, whose instructions stand in the order in which they begin.

    Args:
      mesh: axis -> size, in the order of the device ids.
    """
    parts = [
        (runs, _of_computation(program.computations[name], program, topology, mesh))
        for name, runs in program.runs.items()
        if name not in program.fused
    ]
    return Serial(
        sum(runs * part.kernels for runs, part in parts),
        sum(runs * part.waits for runs, part in parts),
    )


def _of_computation(
    body: dict[str, Instruction], program: Program, topology: Topology, mesh: dict[str, int]
) -> Serial:
    chip, kernels, waits = topology.chip, 0.0, 0.0
    under_way: dict[str, float] = {}  # start of a collective -> when its bytes are sent
    sent = 0.0  # when those of the last one are: one after the other
    for name, instruction in body.items():
        if collectives.is_collective(instruction):
            kind = collectives.kind_of(instruction)
            group = tuple(collectives.group_of(instruction, mesh))
            takes = collectives.sent_by(kind, instruction, body, len(group)) / topology.rate(group)
            sent = max(sent, kernels + waits) + takes
            if kind == instruction.op:
                waits = sent - kernels
            else:
                under_way[name] = sent
        elif instruction.operands and instruction.operands[0] in under_way:
            waits = max(waits, under_way.pop(instruction.operands[0]) - kernels)
        else:
            moved = traffic.bytes_of(instruction, body, program)
            done = _flops(instruction, body, program)
            kernels += max(moved / chip.hbm_rate, done / chip.flops)
    return Serial(kernels, waits)


def _flops(kernel: Instruction, body: dict[str, Instruction], program: Program) -> float:
    if kernel.op != "fusion":
        return matmuls.flops_of(kernel, body)
    inside = program.computations[called(kernel)["calls"][0]]
    return sum(matmuls.flops_of(one, inside) for one in inside.values())
