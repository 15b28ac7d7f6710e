"""What a step must execute by the model's sizes alone, to hold the count of the HLO against."""

from typing import NamedTuple

from qwenvl_jax.model import splash as kernel
from qwenvl_jax.model import windows
from qwenvl_jax.model.config import ModelConfig, VitConfig
from qwenvl_jax.train.flops import adapter_flops


def hardware_flops(
    model: ModelConfig,
    trained: set[str],
    *,
    rows: int,
    length: int,
    images: int,
    head_positions: float,
    splash: bool,
) -> float:
    """Matmul FLOPs of a step on all devices together: every slot and position is worked on,
    and remat repeats what its policy says.

    Args:
      trained: names of the towers with a trainable parameter, of `vit`, `adapter`, `decoder`.
      head_positions: those that the head is applied to: labelled, in whole chunks.
      splash: attention within a tower by the TPU kernel where it fits, not dense.
    """
    vit, decoder = model.vit, model.decoder
    patches = (vit.image_size // vit.patch_size) ** 2
    positions = rows * length

    below = bool(trained & {"vit", "adapter"})  # the decoder's input has a gradient
    products = _vision(vit, patches, splash)
    tower = _blocks(
        vit.layers, vit.width, vit.mlp_width, 2, products, "vit" in trained, False, model.remat
    )
    patch = 2 * patches * 3 * vit.patch_size**2 * vit.width * (2 if "vit" in trained else 1)
    products = _attention(length, decoder.heads, decoder.head_width, causal=True, splash=splash)
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


def _attention(length, heads, width, *, causal: bool, splash: bool) -> _Attention:
    product = 2.0 * length * heads * width
    if not (splash and kernel.fits(length)):
        return _Attention(2 * product, 4 * product, product)
    product *= -(-width // kernel.LANES) * kernel.LANES / width
    if causal:  # blocks above the diagonal are skipped, those on it are whole
        blocks = length // next(block for block in kernel.BLOCKS if length % block == 0)
        product *= (blocks + 1) / (2 * blocks)
    # Its backward kernel makes the scores anew.
    return _Attention(2 * product, 5 * product, 0)


def _vision(vit: VitConfig, patches: int, splash: bool) -> _Attention:
    """Of a mean layer: windows are images of their own."""
    whole = _attention(patches, vit.heads, vit.head_width, causal=False, splash=splash)
    sees_all = windows.global_layers(vit)
    if sees_all is None:
        return whole
    inside = (vit.window // vit.patch_size) ** 2
    part = _attention(inside, vit.heads, vit.head_width, causal=False, splash=splash)
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
