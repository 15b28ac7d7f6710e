"""The decoder's blocks: pre-norm, rotary positions, gated MLP.

Shape letters: B rows, T positions, D width, N heads, H head width, J = H / 2 rotation rates.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.cache_utils import Cache

from .vision_qwenvl import attend


class RMSNorm(nn.Module):
    """x / rms(x) in float32, cast back, then times the weight."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return wide.to(x.dtype) * self.weight


def ntk_alpha(lengths_B: Tensor, train_length: int) -> Tensor:
    """Dynamic NTK's factor by prompt length: max(2^ceil(log2(L / train_length) + 1) - 1, 1)."""
    ratio = lengths_B.double() / train_length
    return (2.0 ** (ratio.log2() + 1.0).ceil() - 1.0).clamp(min=1.0).float()


def rotations(positions_BT: Tensor, head_width: int, base: float, alpha_B: Tensor):
    """cos and sin as (B, 1, T, H), float32; the base grows to base * alpha^(H / (H - 2))."""
    bases_B1 = (base * alpha_B ** (head_width / (head_width - 2)))[:, None]
    exponents = torch.arange(0, head_width, 2, device=positions_BT.device).float() / head_width
    rates_BJ = 1.0 / bases_B1**exponents
    angles = positions_BT[..., None].float() * rates_BJ[:, None, :]
    angles = torch.cat([angles, angles], dim=-1)[:, None]
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Half-split rotation in float32: (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin)."""
    wide = x.float()
    x1, x2 = wide.chunk(2, dim=-1)
    return (wide * cos + torch.cat([-x2, x1], dim=-1) * sin).to(x.dtype)


class DecoderAttention(nn.Module):
    """Causal attention; a fused projection with a bias, an out-projection without."""

    def __init__(self, decoder, layer: int, way: str):
        super().__init__()
        self.c_attn = nn.Linear(decoder.width, 3 * decoder.width)
        self.c_proj = nn.Linear(decoder.width, decoder.width, bias=False)
        self.heads, self.layer, self.way = decoder.heads, layer, way

    def forward(self, x_BTD: Tensor, shared: dict, cache: Cache | None) -> Tensor:
        qkv = self.c_attn(x_BTD).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q = rotate(q, *shared["rotations"])
        k = rotate(k, *shared["rotations"])
        if shared["q_scale"] is not None:
            q = (q * shared["q_scale"]).to(q.dtype)
        if cache is not None:
            k, v = cache.update(k, v, self.layer)
        out = attend(q, k, v, mask=shared["mask"], causal=shared["causal"], way=self.way)
        return self.c_proj(out.transpose(1, 2).flatten(2))


class DecoderBlock(nn.Module):
    """x + attn(ln_1(x)), then x + mlp(ln_2(x)); the MLP is w1(x) * silu(w2(x)), projected."""

    def __init__(self, decoder, layer: int, way: str):
        super().__init__()
        self.ln_1 = RMSNorm(decoder.width, decoder.eps)
        self.attn = DecoderAttention(decoder, layer, way)
        self.ln_2 = RMSNorm(decoder.width, decoder.eps)
        self.mlp = nn.ModuleDict(
            {
                "w1": nn.Linear(decoder.width, decoder.mlp_width, bias=False),
                "w2": nn.Linear(decoder.width, decoder.mlp_width, bias=False),
                "c_proj": nn.Linear(decoder.mlp_width, decoder.width, bias=False),
            }
        )

    def forward(self, x_BTD: Tensor, shared: dict, cache: Cache | None) -> Tensor:
        x_BTD = x_BTD + self.attn(self.ln_1(x_BTD), shared, cache)
        normed = self.ln_2(x_BTD)
        hidden = self.mlp["w1"](normed) * F.silu(self.mlp["w2"](normed))
        return x_BTD + self.mlp["c_proj"](hidden)
