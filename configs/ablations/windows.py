"""Window against global attention in the vision tower as pictures grow: the paper's ablation that
kept global attention (arXiv 2308.12966 v3, appendix E.3).

    python launch/sweep.py --config=configs/stage1.py --arms=configs/ablations/windows.py \\
        --seeds=3 --workdir=runs/windows

Windows are of 224 x 224 pixels in three layers of four, at 448 and 896 pixels. The variant `demo`
is for the small model: windows of 32 x 32 at 64 and 128 pixels. The embedded scenes are drawn at
64, so 128 shows them larger, not finer.
"""

SIZES, WINDOW = (448, 896), 224
DEMO_SIZES, DEMO_WINDOW = (64, 128), 32


def get_arms(variant: str) -> dict[str, dict]:
    """{name: {field below config: value}}."""
    if variant not in ("", "demo"):
        raise ValueError(f"--arms: variant {variant!r} is not known; there is: demo")
    sizes, window = (DEMO_SIZES, DEMO_WINDOW) if variant else (SIZES, WINDOW)
    return {
        f"{name}-{size}": {"model.vit.image_size": size, "model.vit.window": side}
        for size in sizes
        for name, side in (("global", 0), ("window", window))
    }
