"""What a step must execute by the model's sizes alone, to hold the count of the HLO against."""

from typing import Literal, NamedTuple

from qwenvl_jax.model import splash, windows
from qwenvl_jax.model.config import ModelConfig, VitConfig
from qwenvl_jax.train.flops import adapter_flops

Kernel = Literal["dense", "splash", "cudnn"]  # what attention within a tower is computed by
CUDNN_BLOCK = 128  # queries and keys of a tile, and the width that heads are padded to


def kernel_on(platform: str) -> Kernel:
    """What `model/attention.py` takes for rows that its kernel there fits."""
    return {"tpu": "splash", "gpu": "cudnn"}.get(platform, "dense")


def hardware_flops(
    model: ModelConfig,
    trained: set[str],
    *,
    rows: int,
    length: int,
    images: int,
    head_positions: float,
    kernel: Kernel,
) -> float:
    """Matmul FLOPs of a step on all devices together: every slot and position is worked on,
    and remat repeats what its policy says.

    Args:
      trained: names of the towers with a trainable parameter, of `vit`, `adapter`, `decoder`.
      head_positions: those that the head is applied to: labelled, in whole chunks.
      kernel: of attention within a tower; dense where it does not take its rows.
    """
    vit, decoder = model.vit, model.decoder
    patches = (vit.image_size // vit.patch_size) ** 2
    positions = rows * length

    below = bool(trained & {"vit", "adapter"})  # the decoder's input has a gradient
    products = _vision(vit, patches, kernel)
    tower = _blocks(
        vit.layers, vit.width, vit.mlp_width, 2, products, "vit" in trained, False, model.remat
    )
    patch = 2 * patches * 3 * vit.patch_size**2 * vit.width * (2 if "vit" in trained else 1)
    products = _attention(length, decoder.heads, decoder.head_width, causal=True, kernel=kernel)
    language = _blocks(
        decoder.layers, decoder.width, decoder.mlp_width, 3, products, "decoder" in trained, below,
        model.remat,
    )  # fmt: skip
    # Logits and their gradient's way back at once; the head's own gradient makes logits anew.
    head = 2 * decoder.width * decoder.vocab_size * (2 * ("decoder" in trained) + 1 + bool(trained))
    resample = adapter_flops(model) * (3 if trained & {"vit", "adapter"} else 1)
    vision = images * (patches * tower + patch + resample)
    return float(vision + positions * language + head_positions * head)


class _Attention(NamedTuple):
    """FLOPs a token of one layer's attention, projections aside."""

    forward: float
    backward: float
    dots_again: float  # what the policy `dots` repeats


def _attention(length, heads, width, *, causal: bool, kernel: Kernel) -> _Attention:
    product = 2.0 * length * heads * width
    if kernel == "dense" or (kernel == "splash" and not splash.fits(length)):
        return _Attention(2 * product, 4 * product, product)
    block, lanes = CUDNN_BLOCK, CUDNN_BLOCK
    if kernel == "splash":
        block, lanes = next(b for b in splash.BLOCKS if length % b == 0), splash.LANES
    product *= -(-width // lanes) * lanes / width
    if causal:  # blocks above the diagonal are skipped, those on it are whole
        blocks = -(-length // block)
        product *= (blocks + 1) / (2 * blocks)
    # Its backward kernel makes the scores anew.
    return _Attention(2 * product, 5 * product, 0)


def _vision(vit: VitConfig, patches: int, kernel: Kernel) -> _Attention:
    """Of a mean layer: windows are images of their own."""
    whole = _attention(patches, vit.heads, vit.head_width, causal=False, kernel=kernel)
    sees_all = windows.global_layers(vit)
    if sees_all is None:
        return whole
    inside = (vit.window // vit.patch_size) ** 2
    part = _attention(inside, vit.heads, vit.head_width, causal=False, kernel=kernel)
    share = float(sees_all.mean())

    def mean(a: float, b: float) -> float:
        return share * a + (1 - share) * b

    return _Attention(*map(mean, whole, part))


def _blocks(layers, width, mlp, mlp_matmuls, attention, trained, needs_input, remat) -> float:
    """FLOPs a token of a stack of blocks."""
    weights = 2 * (4 * width**2 + mlp_matmuls * width * mlp)
    if not (trained or needs_input):
        return layers * (weights + attention.forward)
    backward = weights * (1 + trained) + attention.backward
    # A block's last product is not needed to go back through it.
    again = {
        "none": 0,
        "dots": attention.dots_again,
        "full": weights + attention.forward - 2 * width * mlp,
    }[remat]
    return layers * (weights + attention.forward + backward + again)
