"""How many matmul FLOPs a batch must cost: the ideal count behind MFU.

Forward, one multiply-add = 2 FLOPs. Training multiplies a tower's forward by
    3  trained (forward, gradient of inputs, gradient of weights)
    2  frozen, but something below it is trained (no gradient of weights)
    1  frozen, nothing below it is trained
"""

from qwenvl_jax.model import windows
from qwenvl_jax.model.config import ModelConfig

# Dense bf16 peak of one chip, FLOP/s, by jax's `device_kind`.
PEAK = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
}


def image_flops(model: ModelConfig) -> float:
    """Forward FLOPs of the ViT and the adapter on one image."""
    vit = model.vit
    P = (vit.image_size // vit.patch_size) ** 2
    patch = 2 * P * 3 * vit.patch_size**2 * vit.width
    scores = 4 * P * windows.mean_context(vit) * vit.width
    block = 2 * P * (4 * vit.width**2 + 2 * vit.width * vit.mlp_width) + scores
    return float(patch + vit.layers * block + adapter_flops(model))


def adapter_flops(model: ModelConfig) -> float:
    """Forward FLOPs of the adapter on one image."""
    vit, Q, width = model.vit, model.adapter.num_queries, model.decoder.width
    P = (vit.image_size // vit.patch_size) ** 2
    if model.adapter.kind == "mlp":
        return 2.0 * P * vit.width * width + 2 * Q * width**2
    if model.adapter.kind == "pooling":
        return 2.0 * Q * vit.width * width
    keys = 2 * P * width * (vit.width + 2 * width)
    return float(keys + 2 * Q * 3 * width**2 + 4 * Q * P * width)


def token_flops(model: ModelConfig, context: float) -> float:
    """Forward FLOPs of the decoder blocks on one token that sees `context` tokens on average."""
    d = model.decoder
    return d.layers * (2 * (4 * d.width**2 + 3 * d.width * d.mlp_width) + 4 * context * d.width)


def ideal_step_flops(
    model: ModelConfig,
    trained: set[str],
    *,
    images: float,
    tokens: float,
    labelled: float,
    context: float,
) -> float:
    """Matmul FLOPs of one step that does nothing needless.

    Args:
      trained: names of the towers with a trainable parameter, of `vit`, `adapter`, `decoder`.
      images, tokens, labelled: real images, non-padding tokens and labelled tokens of the batch.
      context: mean number of positions that a token attends to (half a sample's length).
    """
    decoder = 3 if "decoder" in trained else 2 if trained else 1
    vit = 3 if "vit" in trained else 1  # nothing is below it
    adapter = 3 if "adapter" in trained else 2 if "vit" in trained else 1
    head = 2 * labelled * model.decoder.width * model.decoder.vocab_size
    resample = adapter_flops(model)
    vision = vit * (image_flops(model) - resample) + adapter * resample
    return images * vision + decoder * (tokens * token_flops(model, context) + head)
