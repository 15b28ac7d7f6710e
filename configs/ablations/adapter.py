"""What turns patches into the decoder's features, at equal numbers of them.

    python launch/sweep.py --config=configs/stage1.py --arms=configs/ablations/adapter.py \\
        --seeds=3 --workdir=runs/adapter

The paper takes cross-attention and compares it with nothing. Here it stands against the projectors
of other systems: an MLP on the concatenated patches of each cell, and a linear map of their mean.
At 224 px a cell of the released size is one patch; at 448 px it is four. The variant `demo`, for
the small model, has the same arms; its cells are of four patches.
"""

KINDS = ("cross_attention", "mlp", "pooling")


def get_arms(variant: str) -> dict[str, dict]:
    """{name: {field below config: value}}."""
    if variant not in ("", "demo"):
        raise ValueError(f"--arms: variant {variant!r} is not known; there is: demo")
    return {kind: {"model.adapter.kind": kind} for kind in KINDS}
