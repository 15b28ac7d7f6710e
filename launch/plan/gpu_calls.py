"""FLOPs of the library calls that XLA makes of products and attention on NVIDIA GPUs."""

import math
import re

from launch.plan.analytic import CUDNN_BLOCK
from launch.plan.hlo import Instruction, arrays

# Products of queries by keys, or of their size; the backward kernel makes the scores anew.
_ATTENTION = {"__cudnn$fmhaSoftmax": 2, "__cudnn$fmhaSoftmaxBackward": 5}


def flops(target: str, call: Instruction, body: dict[str, Instruction]) -> float:
    """Of one call.

    Raises:
      ValueError: a call that is not known here: its work would go uncounted.
    """
    if target in _ATTENTION:
        return _ATTENTION[target] * _scores(call)
    contracted = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', call.text)
    if not target.startswith("__cublas") or not contracted:
        raise ValueError(f"HLO call {call.name} of {target}: how much it computes is not known")
    dims = body[call.operands[0]].arrays[0].dims
    depth = math.prod(dims[int(d)] for d in re.findall(r"\d+", contracted[1]))
    return 2.0 * call.arrays[0].size * depth


def _scores(call: Instruction) -> float:
    """FLOPs of one product of queries by keys, as if a packed row were one sample: where its
    samples end is in no program.
    """
    queries, keys = arrays(call.text.split("operand_layout_constraints=", 1)[1])[:2]
    batch, length, heads, width = queries.dims
    padded = -(-width // CUDNN_BLOCK) * CUDNN_BLOCK
    blocks = -(-length // CUDNN_BLOCK)
    share = (blocks + 1) / (2 * blocks) if "CAUSAL" in call.text else 1.0
    return 2.0 * batch * heads * length * keys.dims[1] * padded * share
