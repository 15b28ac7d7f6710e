"""What the devices of a program send each other, by the compiled program."""

import itertools
import math
import re
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from launch.plan.hlo import Instruction, Program, called
from launch.plan.traffic import size_of

_COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
# What TPU slices exchange goes through their hosts: a `send` that names its kind and its slices.
_BETWEEN_SLICES = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
_SLICES = re.compile(r'_xla_megascale_target="\{([\d,]+)\}x')


class Collective(NamedTuple):
    kind: str
    axes: str  # mesh axes it runs over, as `data+fsdp`
    sent: float  # bytes that leave a device, all runs together
    runs: float
    name: str  # where in the program it comes from
    group: tuple[int, ...] = ()  # the devices that work together, of one group


def find(program: Program, mesh: dict[str, int]) -> list[Collective]:
    """Every collective with what a device sends, by a ring: (n - 1) / n of what it ends up with,
    twice that for an all-reduce.

    Args:
      mesh: axis -> size, in the order of the device ids.
    """
    found: dict[tuple[str, ...], Collective] = {}
    around = _around(program)
    for name, body in program.computations.items():
        runs = program.runs.get(name, 0.0)
        for instruction in body.values() if runs else ():
            if not is_collective(instruction):
                continue
            kind, key = kind_of(instruction), (name, instruction.name)
            if name in program.fused:
                # An asynchronous one stands in the fusions of its start, of what runs meanwhile and
                # of its end; a channel may be used again elsewhere.
                channel = re.search(r"channel_id=(\d+)", instruction.text)
                key = (around[name], kind, channel[1] if channel else instruction.name)
                if kind == "all-reduce":
                    kind = "reduce-scatter"  # fused with the slice that is left of it
            group = group_of(instruction, mesh)
            sent = runs * sent_by(kind, instruction, body, len(group))
            source = re.search(r'op_name="([^"]*)"', instruction.text)
            label = source[1] if source else instruction.name
            new = Collective(kind, _axes(group, mesh), sent, runs, label, tuple(group))
            if key not in found or found[key].sent < sent:
                found[key] = new
    return [c for c in found.values() if c.sent]


def _around(program: Program) -> dict[str, str]:
    """Fused computation -> that in which the fusion stands, if need be of a fusion around it."""
    around = {
        inside: name
        for name, body in program.computations.items()
        for instruction in body.values()
        for names in called(instruction).values()
        for inside in names
    }
    for name in program.fused:
        while around[name] in program.fused:
            around[name] = around[around[name]]
    return around


def is_collective(instruction: Instruction) -> bool:
    """Whether devices exchange something there; of an asynchronous one, at its start."""
    return kind_of(instruction) in _COLLECTIVES


def kind_of(instruction: Instruction) -> str:
    """Its op; of what TPU slices send each other, that which it is a part of."""
    if instruction.op == "send":
        between = _BETWEEN_SLICES.search(instruction.text)
        kind = between[1].lower().replace("_", "-") if between else "send"
        return "collective-permute" if kind == "one-to-one" else kind
    return instruction.op.removesuffix("-start")


def sent_by(kind: str, instruction: Instruction, body: dict[str, Instruction], ways: int) -> float:
    """Bytes that a device sends in one run of a collective of `ways` devices."""
    share = (ways - 1) / ways
    given = sum(size_of(body[name]) for name in instruction.operands if name in body)
    if kind == "all-gather":
        return given * (ways - 1)
    if kind == "collective-permute":
        return given
    return (2 * share if kind == "all-reduce" else share) * given


def group_of(instruction: Instruction, mesh: dict[str, int]) -> list[int]:
    """Device ids that work together in the collective: those of the first group; of all slices the
    first chip, as the chips of one are neighbours in the mesh.

    Raises:
      ValueError: between which slices something is sent is not known.
    """
    total = math.prod(mesh.values())
    text = instruction.text
    if instruction.op == "send":
        slices = _SLICES.search(text)
        if slices is None:
            raise ValueError(f"HLO {instruction.name}: between which slices it sends is not known")
        return list(range(0, total, total // len(slices[1].split(","))))
    pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", text)
    if pairs:
        hops = [tuple(map(int, p.split(","))) for p in re.findall(r"\{(\d+,\d+)", pairs[0])]
        moves = [pair for pair in hops if pair[0] != pair[1]]
        return list(moves[0]) if moves else [0]
    named = re.search(
        r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]*)\](?:T\(([\d,]*)\))?\))?"
        r" \{([^}]*)\}",
        text,
    )
    if named:
        sizes = [int(n) for n in re.findall(r"=(\d+)", named[1])]
        names = re.findall(r"'(\w+)'=", named[1])
        used = re.findall(r"'(\w+)'", named[4])
        ids = _iota(named[2] or str(math.prod(sizes)), named[3]).reshape(sizes)
        return ids[tuple(slice(None) if n in used else 0 for n in names)].ravel().tolist()
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", text)
    if listed:
        return [int(n) for n in listed[1].split(",")]
    iota = re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]*)\](?:T\(([\d,]*)\))?", text)
    if iota:
        groups = _iota(iota[3], iota[4]).reshape(int(iota[1]), int(iota[2]))
        return groups[0].tolist()
    return list(range(total))


def _iota(dims: str, order: str | None) -> np.ndarray:
    """Device ids 0, 1, .. as an array of these dims; of a slice alone where there are several."""
    sizes = [int(n) for n in dims.split(",")]
    ids = np.arange(math.prod(sizes)).reshape(sizes)
    return ids.transpose([int(n) for n in order.split(",")]) if order else ids


def _axes(group: list[int], mesh: dict[str, int]) -> str:
    places = np.unravel_index(group, list(mesh.values()))
    moving = [axis for axis, at in zip(mesh, places, strict=True) if len(set(at.tolist())) > 1]
    return "+".join(moving) or "none"


def by_kind_and_axis(found: list[Collective]) -> dict[str, dict[str, float]]:
    """kind -> axes -> bytes sent by a device in a step."""
    table: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for kind, group in itertools.groupby(sorted(found), lambda c: c.kind):
        for collective in group:
            table[kind][collective.axes] += collective.sent
    return {kind: dict(axes) for kind, axes in table.items()}
