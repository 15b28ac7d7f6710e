"""The compiler's own text of a program, as computations of instructions, and how often each runs.

XLA's cost analysis counts the body of a loop once. Here a loop's trip count is read from its
condition (`i < 48`, what a scan becomes) and carried down the calls.
"""

import re
from collections import defaultdict
from typing import NamedTuple

_HEADER = re.compile(r"^(ENTRY )?%?(\S+) \(.*\{$")
_ARRAY = re.compile(r"(pred|bf16|f16|f32|f64|f8\w+|[su]\d+|c64|c128|token)\[([\d,]*)\]({[^}]*})?")
_CALLED = re.compile(
    r"(calls|to_apply|body|condition|branch_computations|called_computations"
    r"|true_computation|false_computation)="
    r"(%[^\s,]+|\{[^}]*\})"
)
_BITS = {"pred": 8, "bf16": 16, "c64": 64, "c128": 128, "token": 0}
ON_CHIP = ("S(1)", "S(3)")  # a layout's memory spaces: TPU vector memory, the like of it on a v4


class Array(NamedTuple):
    dtype: str
    dims: tuple[int, ...]
    layout: str

    @property
    def size(self) -> int:
        count = 1
        for dim in self.dims:
            count *= dim
        return count

    @property
    def bytes(self) -> int:
        known = self.dtype in _BITS
        bits = _BITS[self.dtype] if known else int(re.findall(r"\d+", self.dtype)[0])
        return self.size * bits // 8

    @property
    def on_chip(self) -> bool:
        return any(space in self.layout for space in ON_CHIP)


class Instruction(NamedTuple):
    name: str
    arrays: tuple[Array, ...]  # of its result; several for a tuple
    op: str
    operands: tuple[str, ...]
    text: str  # from the operands on
    root: bool


class Program(NamedTuple):
    computations: dict[str, dict[str, Instruction]]
    runs: dict[str, float]  # computation -> how often it runs in one execution
    fused: frozenset[str]  # computations whose values never leave the chip's registers


def parse(text: str, *, taken: float | None = None, rounds: float | None = None) -> Program:
    """Read HLO text.

    Args:
      taken: how often of all times the condition of a branch holds; None: both sides are counted
        as if they always ran.
      rounds: how often a loop goes round whose limit the program itself computes, as that over
        chunks of labelled positions; None: there is no such loop.

    Raises:
      ValueError: no entry computation, or a loop whose trip count cannot be read.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    entry, body = "", None
    for line in text.splitlines():
        if body is None:
            header = _HEADER.match(line)
            if header:
                body = computations.setdefault(header[2], {})
                entry = header[2] if header[1] else entry
        elif line == "}" or line.startswith("}, execution_thread"):
            body = None
        elif line.startswith(" ") and " = " in line:
            last = _instruction(line)
            body[last.name] = last
        elif body:  # a kernel's metadata goes on over several lines
            last = body[last.name] = last._replace(text=last.text + line)
    if not entry:
        raise ValueError("HLO text without an ENTRY computation")
    runs = _runs(computations, entry, taken, rounds)
    return Program(computations, runs, _fused(computations))


def _instruction(line: str) -> Instruction:
    left, right = line.strip().split(" = ", 1)
    shape, rest = _split(right)
    op, rest = rest.lstrip().split("(", 1)
    inside, _ = _split("(" + rest)
    operands = tuple(re.findall(r"%([^\s,()]+)", inside))
    return Instruction(
        left.removeprefix("ROOT ").lstrip("%"),
        arrays(shape),
        op,
        operands,
        rest,
        left.startswith("ROOT "),
    )


def arrays(shape: str) -> tuple[Array, ...]:
    """`(s32[], bf16[2,3]{1,0})` -> its arrays."""
    return tuple(
        Array(dtype, tuple(int(d) for d in dims.split(",") if d), layout)
        for dtype, dims, layout in _ARRAY.findall(shape)
    )


def _split(text: str) -> tuple[str, str]:
    """(what stands before the first space, or in the first brackets; the rest)."""
    if not text.startswith("("):
        first, _, rest = text.partition(" ")
        return first, rest
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return text[: place + 1], text[place + 1 :]
    raise ValueError(f"HLO text: brackets do not close in {text[:80]!r}")


def called(instruction: Instruction) -> dict[str, list[str]]:
    """Attribute -> names of the computations that an instruction calls."""
    return {
        key: re.findall(r"%?([^\s,{}%]+)", names)
        for key, names in _CALLED.findall(instruction.text)
    }


def _runs(
    computations: dict[str, dict[str, Instruction]],
    entry: str,
    taken: float | None,
    rounds: float | None,
) -> dict[str, float]:
    runs: dict[str, float] = defaultdict(float)

    def visit(name: str, times: float) -> None:
        runs[name] += times
        for instruction in computations[name].values():
            for key, names in called(instruction).items():
                loop = key in ("body", "condition")
                trips = trip_count(computations, name, instruction, rounds) if loop else 1
                for place, inside in enumerate(names):
                    if inside in computations:
                        visit(inside, times * trips * _share(key, place, len(names), taken))

    visit(entry, 1.0)
    return dict(runs)


def _share(key: str, place: int, branches: int, taken: float | None) -> float:
    """Of how many times a computation runs that an instruction calls as `key`."""
    if taken is None or (key == "branch_computations" and branches != 2):
        return 1.0
    if key == "true_computation" or (key == "branch_computations" and place == 1):
        return taken
    return 1 - taken if key in ("branch_computations", "false_computation") else 1.0


def trip_count(
    computations: dict[str, dict[str, Instruction]],
    around: str,
    loop: Instruction,
    rounds: float | None,
) -> float:
    """How often a `while` goes round: `rounds` where its limit is computed.

    Args:
      around: the computation that the loop stands in.

    Raises:
      ValueError: its condition is not `i < constant`, and `rounds` is not given; or what it begins
      at is not known.
    """
    known = re.search(r'known_trip_count[^\d]*"?n"?[^\d]*(\d+)', loop.text)
    if known:
        return int(known[1])
    condition = computations[called(loop)["condition"][0]]
    limits = [int(re.match(r"(\d+)\)", i.text)[1]) for i in condition.values()
              if i.op == "constant" and re.match(r"\d+\)", i.text)]  # fmt: skip
    if not limits and rounds is not None:
        return rounds
    if len(limits) != 1:
        raise ValueError(f"HLO loop {loop.name}: no single limit in its condition: {limits}")
    counter = next((i for i in condition.values() if i.root), None)
    watched = condition.get(counter.operands[0]) if counter and counter.operands else None
    if watched is None or watched.op != "get-tuple-element":
        raise ValueError(f"HLO loop {loop.name}: what its condition looks at is not known")
    place = int(re.search(r"index=(\d+)", watched.text)[1])
    first = _start(computations[around], loop, place)
    return (limits[0] - first) / _step(computations[called(loop)["body"][0]], place)


def _start(around: dict[str, Instruction], loop: Instruction, place: int) -> int:
    """What a loop's counter begins with: 1 where its first round was moved ahead of it."""
    given = around[loop.operands[0]]
    value = around.get(given.operands[place]) if given.op == "tuple" else None
    while value is not None and value.op == "copy":
        value = around.get(value.operands[0])
    if value is None or value.op != "constant":
        raise ValueError(f"HLO loop {loop.name}: what its counter begins with is not known")
    return int(re.match(r"(\d+)\)", value.text)[1])


def _step(body: dict[str, Instruction], place: int) -> int:
    """By how much a round moves the counter on: 1 but for unrolled loops."""
    root = next(i for i in body.values() if i.root)
    moved = body.get(root.operands[place])
    if moved is None or moved.op != "add":
        return 1
    constants = [body[name] for name in moved.operands if body[name].op == "constant"]
    return int(re.match(r"(\d+)\)", constants[0].text)[1]) if constants else 1


def _fused(computations: dict[str, dict[str, Instruction]]) -> frozenset[str]:
    """Computations inside fusions, reductions and the like: their values are in no memory."""
    return frozenset(
        inside
        for body in computations.values()
        for instruction in body.values()
        for key, names in called(instruction).items()
        if (key == "to_apply" and instruction.op != "call")
        or (key == "calls" and instruction.op == "fusion")
        for inside in names
    )
