"""Whether stage 1 trains the vision tower, or the adapter alone.

    python launch/sweep.py --config=configs/stage1.py --arms=configs/ablations/frozen_vit.py \\
        --seeds=3 --workdir=runs/frozen_vit

The variant `demo`, for the small model, has the same arms; its tower starts at random, so the demo
shows what training it is worth, not whether a pretrained one needs it.
"""


def get_arms(variant: str) -> dict[str, dict]:
    """{name: {field below config: value}}."""
    if variant not in ("", "demo"):
        raise ValueError(f"--arms: variant {variant!r} is not known; there is: demo")
    return {
        "trained": {"optim.trainable": "(vit|adapter)/.*"},
        "frozen": {"optim.trainable": "adapter/.*"},
    }
