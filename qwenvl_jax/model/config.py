"""Sizes of the three towers, checked when they are made."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from qwenvl_jax import settings

_MAY_BE_0 = ("image_pad_id", "window", "sincos_positions", "positions")


def _positive(config: Any, tower: str) -> None:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, str):
            continue
        if not (value > 0 or (value == 0 and field.name in _MAY_BE_0)):  # NaN too
            raise ValueError(f"config.model.{tower}.{field.name}={value} must be positive")


def _divides(tower: str, whole: str, value: int, part: str, divisor: int) -> None:
    if value % divisor:
        raise ValueError(
            f"config.model.{tower}.{whole}={value} is not a multiple of"
            f" config.model.{tower}.{part}={divisor}"
        )


@dataclasses.dataclass(frozen=True)
class VitConfig:
    """The vision tower (OpenCLIP's ViT-bigG/14 when released)."""

    image_size: int  # pixels a side
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    position_grid: int  # side of the stored position table; resampled to the image's grid
    # Pixels a side of the windows within which three layers of four attend (the paper's ablation,
    # 224 there); 0: every layer attends to the whole image.
    window: int = 0
    # Where positions start: as 2-D sine and cosine, or small and at random. For a ViT that starts
    # from nothing: at random, what is seen outweighs where ten times over.
    sincos_positions: bool = False
    eps: float = 1e-6

    def __post_init__(self):
        _positive(self, "vit")
        _divides("vit", "width", self.width, "heads", self.heads)
        _divides("vit", "image_size", self.image_size, "patch_size", self.patch_size)
        if self.window:
            _divides("vit", "window", self.window, "patch_size", self.patch_size)
            _divides("vit", "image_size", self.image_size, "window", self.window)

    @property
    def head_width(self) -> int:
        return self.width // self.heads


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """From patches to a fixed number of features for the decoder; released: one cross-attention."""

    num_queries: int
    heads: int
    # For ablations: `mlp` and `pooling` make a feature of the patches of its cell of the image.
    kind: Literal["cross_attention", "mlp", "pooling"] = "cross_attention"
    positions: bool = True  # whether cross-attention knows where its queries and the patches lie
    eps: float = 1e-6

    def __post_init__(self):
        _positive(self, "adapter")
        if self.kind != "cross_attention" and not self.positions:
            raise ValueError(
                f"config.model.adapter.positions=False is for kind cross_attention, not {self.kind}"
            )
        if math.isqrt(self.num_queries) ** 2 != self.num_queries:
            near = [n**2 for n in (math.isqrt(self.num_queries), math.isqrt(self.num_queries) + 1)]
            raise ValueError(
                f"config.model.adapter.num_queries={self.num_queries} is no square (positions are a"
                f" square grid); nearest squares: {near}"
            )

    @property
    def grid(self) -> int:
        return math.isqrt(self.num_queries)


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """The language model (Qwen-7B when released)."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    train_length: int  # beyond it, in evaluation, NTK and log-n rules apply
    image_pad_id: int  # the token whose embedding an image feature replaces
    rope_base: float = 10000.0
    # Standard deviations at a random start: of the embeddings, and of what multiplies features.
    embedding_scale: float = 0.02
    weight_scale: float = 0.02
    eps: float = 1e-6

    def __post_init__(self):
        _positive(self, "decoder")
        _divides("decoder", "width", self.width, "heads", self.heads)
        if self.head_width % 2:
            raise ValueError(f"config.model.decoder: head width {self.head_width} must be even")
        if self.image_pad_id >= self.vocab_size:
            raise ValueError(
                f"config.model.decoder.image_pad_id={self.image_pad_id} is outside"
                f" config.model.decoder.vocab_size={self.vocab_size}"
            )

    @property
    def head_width(self) -> int:
        return self.width // self.heads


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Qwen-VL: ViT -> adapter -> decoder."""

    vit: VitConfig
    adapter: AdapterConfig
    decoder: DecoderConfig
    dtype: Literal["float32", "bfloat16"] = "bfloat16"  # of activations and matmuls
    remat: Literal["none", "dots", "full"] = "full"  # what the backward pass recomputes of a block
    scan_layers: bool = True  # False: unrolled, on a GPU a tenth faster, minutes to compile

    def __post_init__(self):
        _divides(
            "adapter", "width (the decoder's)", self.decoder.width, "heads", self.adapter.heads
        )
        side, grid = self.vit.image_size // self.vit.patch_size, self.adapter.grid
        if self.adapter.kind != "cross_attention" and side % grid:
            raise ValueError(
                f"config.model.adapter.num_queries={grid**2} of kind {self.adapter.kind} are"
                f" {grid} x {grid} cells, into which {side} x {side} patches do not divide"
            )
        if self.decoder.width % 4:
            raise ValueError(
                f"config.model.decoder.width={self.decoder.width} must divide by 4 (2-D positions)"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """From a config page; errors name `config.model...`."""
        return settings.build(cls, values, "config.model")

    @classmethod
    def released(cls, image_size: int = 448) -> "ModelConfig":
        """The 9.66 B parameters of Qwen-VL."""
        return cls(
            VitConfig(image_size, 14, 1664, 48, 16, 8192, 16),
            AdapterConfig(256, 32),
            DecoderConfig(151_936, 4096, 32, 32, 11_008, 2048, 151_859),
        )

    @classmethod
    def tiny(cls, image_size: int = 112) -> "ModelConfig":
        """The sizes of the reference numbers under tests/reference."""
        return cls(
            VitConfig(image_size, 14, 64, 3, 4, 315, 16),
            AdapterConfig(16, 2),
            DecoderConfig(320, 256, 2, 4, 256, 64, 259),
            dtype="float32",
            remat="none",
        )
