"""Bytes that a program reads from and writes to a device's main memory."""

from launch.plan.hlo import Instruction, Program, called

_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional",
    "call", "after-all", "iota", "partition-id", "send", "recv",
}  # fmt: skip


def memory_bytes(program: Program) -> float:
    """Of all instructions that run, as often as they do.

    A fusion that takes a slice of an operand reads the slice alone, one that updates a part of its
    result writes the part, one that hands an operand on does neither.
    """
    return sum(
        program.runs.get(name, 0.0) * bytes_of(instruction, body, program)
        for name, body in program.computations.items()
        if name not in program.fused
        for instruction in body.values()
    )


def bytes_of(instruction: Instruction, body: dict[str, Instruction], program: Program) -> float:
    """Of one run of an instruction that is in no fusion."""
    if instruction.op in _FREE or instruction.op.endswith("-start"):
        return 0.0
    if instruction.op.endswith("-done"):  # counted here, where the result is
        start = body[instruction.operands[0]]
        if "calls=" in start.text:  # its work stands in a computation of its own
            return 0.0
        read, written = _on_main(body[start.operands[0]]), _on_main(instruction)
        copies = instruction.op in ("copy-done", "slice-done")
        return (min(read, size_of(instruction)) if copies else read) + written
    read = 0.0
    for index, name in enumerate(instruction.operands):
        whole = _on_main(body[name]) if name in body else 0.0
        read += min(whole, _touched(instruction, index, whole, program)) if whole else 0.0
    return read + _written(instruction, body, program)


def _touched(user: Instruction, index: int, whole: float, program: Program) -> float:
    """Bytes that `user` reads of its operand at `index`, which is `whole` bytes long."""
    if user.op in ("dynamic-slice", "slice", "gather") and not index:
        return size_of(user)
    if user.op == "dynamic-update-slice" and not index:
        return 0.0
    if user.op == "fusion":
        inner = _inside(user, program)
        given = (
            i for i in inner.values() if i.op == "parameter" and i.text.startswith(f"{index})")
        )
        return _touched_by_users(next(given).name, inner, whole, program)
    return whole


def _touched_by_users(name: str, inner: dict[str, Instruction], whole: float, program: Program):
    total = 0.0
    for user in inner.values():
        for index, operand in enumerate(user.operands):
            if operand == name and user.op == "bitcast":
                total += _touched_by_users(user.name, inner, whole, program)
            elif operand == name and user.op != "tuple":
                total += _touched(user, index, whole, program)
    return min(whole, total)


def _written(instruction: Instruction, body: dict[str, Instruction], program: Program) -> float:
    whole = _on_main(instruction)
    if instruction.op == "dynamic-update-slice":
        return min(whole, size_of(body[instruction.operands[1]]))
    if instruction.op != "fusion":
        return whole
    inner = _inside(instruction, program)
    root = next(i for i in inner.values() if i.root)
    parts = [inner[name] for name in root.operands] if root.op == "tuple" else [root]
    if len(parts) != len(instruction.arrays):  # a root that itself makes several values
        return whole
    total = 0.0
    for array, part in zip(instruction.arrays, parts, strict=True):
        if array.on_chip or part.op == "parameter":
            continue
        updates = part.op == "dynamic-update-slice"
        total += min(size_of(inner[part.operands[1]]), array.bytes) if updates else array.bytes
    return total


def _inside(fusion: Instruction, program: Program) -> dict[str, Instruction]:
    return program.computations[called(fusion)["calls"][0]]


def _on_main(instruction: Instruction) -> float:
    return float(sum(a.bytes for a in instruction.arrays if not a.on_chip))


def size_of(instruction: Instruction) -> float:
    """Bytes of its result, wherever that lies."""
    return float(sum(array.bytes for array in instruction.arrays))
