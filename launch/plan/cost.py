"""Matmul FLOPs and collective traffic of a program, on one device."""

import itertools
import math
import re
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from launch.plan import gpu_calls
from launch.plan.hlo import Instruction, Program
from launch.plan.traffic import size_of

_COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


class Collective(NamedTuple):
    kind: str
    axes: str  # mesh axes it runs over, as `data+fsdp`
    sent: float  # bytes that leave a device, all runs together
    runs: float
    name: str  # where in the program it comes from
    group: tuple[int, ...] = ()  # the devices that work together, of one group


def matmul_flops(program: Program) -> float:
    """Of all products in all runs."""
    return sum(
        program.runs.get(name, 0.0) * flops_of(instruction, body)
        for name, body in program.computations.items()
        for instruction in body.values()
    )


def flops_of(instruction: Instruction, body: dict[str, Instruction]) -> float:
    """Of one run of a `dot`, a `convolution` (what a TPU makes of matmuls) or a kernel, 2 a
    multiply-add; places where a window covers padding or the gaps of a dilation cost nothing, as in
    XLA's own count.
    """
    if instruction.op == "dot":
        return _dot(instruction, body)
    if instruction.op == "convolution":
        return _convolution(instruction, body)
    if instruction.op != "custom-call":
        return 0.0
    target = re.search(r'custom_call_target="([^"]*)"', instruction.text)[1]
    if target.startswith(("__cublas", "__cudnn")):
        return gpu_calls.flops(target, instruction, body)
    return _kernel(instruction, body) if target == "tpu_custom_call" else 0.0


# Products of queries by keys, or of their size, in each of the splash kernels.
_FLOATS = ("bf16", "f32")
_SPLASH = (("splash_mha_fwd", 2), ("splash_mha_dkv", 5))


def _kernel(call: Instruction, body: dict[str, Instruction]) -> float:
    """A Pallas kernel's FLOPs, of which XLA knows nothing. Segmented ones are causal.

    Raises:
      ValueError: a kernel that is not known here: its work would go uncounted.
    """
    products = next((n for name, n in _SPLASH if call.name.startswith(name)), None)
    if products is None:
        raise ValueError(f"HLO kernel {call.name}: how much it computes is not known")
    mask = body[call.operands[0]].arrays[0]  # (.., blocks of queries, blocks of keys)
    arrays = [a for name in call.operands for a in body[name].arrays]
    queries = next(a.dims for a in arrays if a.dtype in _FLOATS and len(a.dims) > 2)
    batch, heads, length, width = (1,) * (4 - len(queries)) + queries  # a batch of 1 is left out
    blocks = mask.dims[-1]
    share = (blocks + 1) / (2 * blocks) if "segmented" in call.name else 1.0
    return products * 2.0 * batch * heads * length**2 * width * share


def _dot(dot: Instruction, body: dict[str, Instruction]) -> float:
    dims = body[dot.operands[0]].arrays[0].dims
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", dot.text)[1]
    depth = math.prod(dims[int(d)] for d in contracted.split(",") if d)
    return 2.0 * dot.arrays[0].size * depth


def _convolution(conv: Instruction, body: dict[str, Instruction]) -> float:
    image, kernel = (body[name].arrays[0].dims for name in conv.operands)
    out = conv.arrays[0].dims
    left, middle, right = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", conv.text).groups()
    window = dict(re.findall(r"(\w+)=([-\dx_]+)", re.search(r"window=\{([^}]*)\}", conv.text)[1])
                  if "window={" in conv.text else [])  # fmt: skip
    spatial = sorted(letter for letter in left if letter.isdigit())
    places = 1
    for index, letter in enumerate(spatial):
        sizes = (image[left.index(letter)], kernel[middle.index(letter)], out[right.index(letter)])
        places *= _covered(*sizes, *(_window(window, key, index) for key in _WINDOW))
    depth = kernel[middle.index("i")]
    return 2.0 * out[right.index("b")] * out[right.index("f")] * depth * places


_WINDOW = ("stride", "pad", "lhs_dilate", "rhs_dilate")


def _window(window: dict[str, str], key: str, index: int) -> int:
    """A number of the window's `key` along a spatial dim; of the padding, that before."""
    values = window.get(key, "").split("x")
    if values == [""]:
        return 0 if key == "pad" else 1
    return int(values[index].split("_")[0])


def _covered(size: int, taps: int, outs: int, stride: int, pad: int, grow: int, gap: int) -> int:
    """Pairs of (output, kernel tap) of one dim that meet a real element of the input."""
    at = np.arange(outs)[:, None] * stride + np.arange(taps) * gap - pad
    return int(((at >= 0) & (at < (size - 1) * grow + 1) & (at % grow == 0)).sum())


def collectives(program: Program, mesh: dict[str, int]) -> list[Collective]:
    """Every collective with what a device sends, by a ring: (n - 1) / n of what it ends up with,
    twice that for an all-reduce.

    Args:
      mesh: axis -> size, in the order of the device ids.
    """
    found: dict[str, Collective] = {}
    for name, body in program.computations.items():
        runs = program.runs.get(name, 0.0)
        for instruction in body.values() if runs else ():
            kind = instruction.op.removesuffix("-start")
            if not is_collective(instruction):
                continue
            if kind == "all-reduce" and name in program.fused:
                kind = "reduce-scatter"  # fused with the slice that is left of it
            # An asynchronous one stands in the computations of its start and of its end.
            channel = re.search(r"channel_id=(\d+)", instruction.text)
            group = group_of(instruction, mesh)
            sent = runs * sent_by(kind, instruction, body, len(group))
            source = re.search(r'op_name="([^"]*)"', instruction.text)
            key = f"{kind} {channel[1]}" if channel else f"{name} {instruction.name}"
            label = source[1] if source else instruction.name
            new = Collective(kind, _axes(group, mesh), sent, runs, label, tuple(group))
            if key not in found or found[key].sent < sent:
                found[key] = new
    return [c for c in found.values() if c.sent]


def is_collective(instruction: Instruction) -> bool:
    """Whether devices exchange something there; of an asynchronous one, at its start."""
    return instruction.op.removesuffix("-start") in _COLLECTIVES


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
    """Device ids that work together in the collective: those of the first group."""
    total = math.prod(mesh.values())
    text = instruction.text
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
        ids = _iota(total, named[2], named[3]).reshape(sizes)
        return ids[tuple(slice(None) if n in used else 0 for n in names)].ravel().tolist()
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", text)
    if listed:
        return [int(n) for n in listed[1].split(",")]
    iota = re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]*)\](?:T\(([\d,]*)\))?", text)
    if iota:
        groups = _iota(total, iota[3], iota[4]).reshape(int(iota[1]), int(iota[2]))
        return groups[0].tolist()
    return list(range(total))


def _iota(total: int, dims: str | None, order: str | None) -> np.ndarray:
    ids = np.arange(total)
    if dims:
        ids = ids.reshape([int(n) for n in dims.split(",")])
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
