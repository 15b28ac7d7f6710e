"""Attention in the ViT: within windows in three layers of four, or over the whole image, by size.

    python launch/sweep.py --config=configs/stage2.py --arms=configs/ablations/windows.py \\
        --seeds=3 --workdir=runs/windows

The paper's ablation (arXiv 2308.12966 v3, appendix E.3): windows of 224 px save a tenth of a step
at 448 px and more than half of it at 896 px, but the loss is higher, so it kept global attention.
The variant `demo` is for the small model, with windows of half the image.
"""

WINDOW = 224
SIZES = (448, 896)
DEMO_SIZES = (64, 128)


def get_arms(variant: str) -> dict[str, dict]:
    """{name: {field below config: value}}."""
    if variant not in ("", "demo"):
        raise ValueError(f"--arms: variant {variant!r} is not known; there is: demo")
    sizes, window = (DEMO_SIZES, DEMO_SIZES[0] // 2) if variant else (SIZES, WINDOW)
    return {
        f"{name}-{size}": {"model.vit.image_size": size, "model.vit.window": pixels}
        for size in sizes
        for name, pixels in (("global", 0), ("window", window))
    }
