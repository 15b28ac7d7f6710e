"""Whether stage 1 trains the vision tower, or the adapter alone.

    python launch/sweep.py --config=configs/stage1.py --arms=configs/ablations/frozen_vit.py \\
        --seeds=3 --workdir=runs/frozen_vit
"""


def get_arms(variant: str) -> dict[str, dict]:
    """{name: {field below config: value}}; there are no variants."""
    if variant:
        raise ValueError(f"--arms: variant {variant!r} is not known; there is none")
    return {
        "trained": {"optim.trainable": "(vit|adapter)/.*"},
        "frozen": {"optim.trainable": "adapter/.*"},
    }
