"""What a device's memory holds during a step, by kind."""

import math
import re

import jax

from launch.plan.hlo import Instruction, Program, called
from qwenvl_jax import trees
from qwenvl_jax.train.program import Prepared, height


def known_bytes(prepared_shapes, shardings, batch_shapes, batch_sharding) -> dict[str, int]:
    """Bytes a device of what has a name: parameters, moments, the frozen rest, gradients, batch."""
    (state, frozen), (state_places, frozen_places) = prepared_shapes, shardings
    parameters = _bytes(state.params, state_places.params)
    return {
        "parameters": parameters,
        "moments": _bytes(state.opt_state, state_places.opt_state),
        "frozen parameters": _bytes(frozen, frozen_places),
        "gradients": parameters,  # float32, added up over the microbatches
        "batch": _bytes(batch_shapes, jax.tree.map(lambda _: batch_sharding, batch_shapes)),
    }


def _bytes(shapes: trees.Tree, shardings: trees.Tree) -> int:
    return sum(
        math.prod(place.shard_shape(shape.shape)) * shape.dtype.itemsize
        for shape, place in zip(jax.tree.leaves(shapes), jax.tree.leaves(shardings), strict=True)
    )


def by_kind(prepared: Prepared, known: dict[str, int], program: Program) -> dict[str, int]:
    """Bytes a device needs at the step's height; the kinds add up to the compiler's own total."""
    code = prepared.train_step.memory_analysis().generated_code_size_in_bytes
    total = height(prepared) + code
    kinds = dict(known)
    kinds["activations"] = kept_activations(program)
    kinds["program"] = code
    kinds["temporaries"] = total - sum(kinds.values())
    if kinds["temporaries"] < 0:  # kinds share memory: what is left over belongs to no name
        kinds["activations"] = max(kinds["activations"] + kinds["temporaries"], 0)
        kinds["temporaries"] = total - sum(v for k, v in kinds.items() if k != "temporaries")
    return kinds


def kept_activations(program: Program) -> int:
    """Bytes that forward loops over layers write, a slice at a time, for the backward pass."""
    total = 0
    for body in program.computations.values():
        for loop in body.values():
            if loop.op != "while" or "transpose(" in loop.text:
                continue
            inside = program.computations[called(loop)["body"][0]]
            root = next(i for i in inside.values() if i.root)
            written = [inside[name] for name in root.operands if name in inside]
            total += sum(_stacked(one, inside, program) for one in written)
    return total


def _stacked(written: Instruction, inside: dict[str, Instruction], program: Program) -> int:
    """Bytes of the whole array where `written` is one with a slice of it new, otherwise 0."""
    place = 0
    if written.op == "get-tuple-element":  # one of several values that a fusion makes
        place = int(re.search(r"index=(\d+)", written.text)[1])
        written = inside[written.operands[0]]
    maker = written
    if written.op == "fusion":
        fused = program.computations[called(written)["calls"][0]]
        maker = next(i for i in fused.values() if i.root)
        if maker.op == "tuple":
            maker = fused[maker.operands[place]]
    return written.arrays[place].bytes if maker.op == "dynamic-update-slice" else 0
