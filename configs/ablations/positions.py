"""Whether the adapter's queries and keys need 2-D positions (arXiv 2308.12966 v3, section 2.1).

    python launch/sweep.py --config=configs/stage1.py --arms=configs/ablations/positions.py \\
        --seeds=3 --workdir=runs/positions

The vision tower keeps its own positions in both arms. The variant `demo`, for the small model, has
the same arms.
"""


def get_arms(variant: str) -> dict[str, dict]:
    """{name: {field below config: value}}."""
    if variant not in ("", "demo"):
        raise ValueError(f"--arms: variant {variant!r} is not known; there is: demo")
    return {
        "with": {"model.adapter.positions": "2d"},
        "without": {"model.adapter.positions": "none"},
    }
