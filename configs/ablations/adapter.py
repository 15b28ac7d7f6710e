"""What stands between vision tower and decoder: the paper's cross-attention (arXiv 2308.12966 v3,
section 2.1) against an MLP projector and against pooling, each with as many tokens an image.

    python launch/sweep.py --config=configs/stage1.py --arms=configs/ablations/adapter.py \\
        --seeds=3 --workdir=runs/adapter

At 224 pixels there are 256 patches: with 256 tokens the MLP sees one patch at a time and pooling is
a linear projection, so 64 tokens, of cells of 2 x 2 patches, are compared as well. The variant
`demo` is for the small model: 16 tokens, of cells of 2 x 2.
"""

from configs.ablations import queries

KINDS = ("cross_attention", "mlp", "pool")
COUNTS = (64, 256)


def get_arms(variant: str) -> dict[str, dict]:
    """{name: {field below config: value}}."""
    if variant == "demo":
        return {kind: {"model.adapter.kind": kind} for kind in KINDS}
    if variant:
        raise ValueError(f"--arms: variant {variant!r} is not known; there is: demo")
    counts = queries.get_arms("")
    return {
        f"{kind}-{count}": counts[f"queries-{count}"] | {"model.adapter.kind": kind}
        for count in COUNTS
        for kind in KINDS
    }
