"""Whether the adapter knows where its queries and the patches lie.

    python launch/sweep.py --config=configs/stage2.py --arms=configs/ablations/positions.py \\
        --seeds=3 --workdir=runs/positions

The paper adds 2-D positions lest compression lose where things are: look at grounding and referring
rather than at captions. The ViT's own positions stay in both arms. The
variant `demo`, for the small model, has the same arms.
"""


def get_arms(variant: str) -> dict[str, dict]:
    """{name: {field below config: value}}."""
    if variant not in ("", "demo"):
        raise ValueError(f"--arms: variant {variant!r} is not known; there is: demo")
    return {
        "with": {"model.adapter.positions": True},
        "without": {"model.adapter.positions": False},
    }
