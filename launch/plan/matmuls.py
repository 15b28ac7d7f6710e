"""Matmul FLOPs of a program, on one device."""

import math
import re

import numpy as np

from launch.plan import gpu_calls
from launch.plan.hlo import Instruction, Program


def flops(program: Program) -> float:
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
