"""What a step must execute by the model's sizes alone, to hold the count of the HLO against."""

from qwenvl_jax.model.config import ModelConfig


def hardware_flops(
    model: ModelConfig, trained: set[str], *, rows: int, length: int, slots: int
) -> float:
    """Matmul FLOPs of a step on all devices together: every slot and position is worked on,
    attention is dense, and remat repeats what its policy says.

    Args:
      trained: names of the towers with a trainable parameter, of `vit`, `adapter`, `decoder`.
    """
    vit, adapter, decoder = model.vit, model.adapter, model.decoder
    patches = (vit.image_size // vit.patch_size) ** 2
    images, positions = rows * slots, rows * length

    below = bool(trained & {"vit", "adapter"})  # the decoder's input has a gradient
    tower = _blocks(
        vit.layers, vit.width, vit.mlp_width, 2, patches, "vit" in trained, False, model.remat
    )
    patch = 2 * patches * 3 * vit.patch_size**2 * vit.width * (2 if "vit" in trained else 1)
    language = _blocks(
        decoder.layers, decoder.width, decoder.mlp_width, 3, length, "decoder" in trained, below,
        model.remat,
    )  # fmt: skip
    # The head's chunks are always computed again.
    head = 2 * decoder.width * decoder.vocab_size * (3 + ("decoder" in trained))
    resample = _adapter(adapter.num_queries, patches, vit.width, decoder.width, trained)
    return float(images * (patches * tower + patch + resample) + positions * (language + head))


def _blocks(layers, width, mlp, mlp_matmuls, context, trained, needs_input, remat) -> float:
    """FLOPs a token of a stack of blocks."""
    weights = 2 * (4 * width**2 + mlp_matmuls * width * mlp)
    scores = 4 * context * width
    if not (trained or needs_input):
        return layers * (weights + scores)
    backward = weights * (1 + trained) + 2 * scores
    # A block's last product is not needed to go back through it.
    again = {
        "none": 0,
        "dots": scores if trained else scores / 2,
        "full": weights + scores - 2 * width * mlp,
    }[remat]
    return layers * (weights + scores + backward + again)


def _adapter(queries: int, patches: int, vit: int, width: int, trained: set[str]) -> float:
    """FLOPs of the adapter on an image."""
    matmuls = 2 * patches * width * (vit + 2 * width) + 2 * queries * 3 * width**2
    scores = 4 * queries * patches * width
    times = 3 if trained & {"vit", "adapter"} else 1
    return times * (matmuls + scores)
