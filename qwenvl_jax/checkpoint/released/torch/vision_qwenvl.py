"""The vision tower and the adapter: RGB bytes -> features of the decoder's width.

Shape letters: M images, R image side in pixels, P patches, Q queries, K vision width, D decoder
width, N heads, H head width. Tensors have the released names.
"""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
GLOBAL_EVERY = 4  # of so many layers, the last one sees the whole image; the others, their window


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False, way: str
) -> Tensor:
    """softmax(q k^T / sqrt(H)) v for (B, N, T, H); softmax in float32.

    Args:
      mask: (B, 1, T, S), True where a query sees a key; None: every key, or those of `causal`.
      way: "sdpa" or "eager".
    """
    if way == "sdpa":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(torch.float32).min)
    return scores.softmax(dim=-1).to(v.dtype) @ v


@functools.lru_cache
def sincos_2d(grid: int, width: int) -> np.ndarray:
    """Fixed positions (grid * grid, width): columns in the first half, rows in the second."""
    omega = 10000.0 ** (-np.arange(width // 4, dtype=np.float64) / (width / 4))
    angles = np.arange(grid, dtype=np.float64)[:, None] * omega
    axis = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    columns = np.broadcast_to(axis[None], (grid, grid, width // 2))
    rows = np.broadcast_to(axis[:, None], (grid, grid, width // 2))
    return np.concatenate([columns, rows], axis=2).reshape(grid * grid, width).astype(np.float32)


def resample(table: Tensor, grid: int) -> Tensor:
    """A square table (P, D) resampled to (grid * grid, D), bicubic, float32."""
    source = math.isqrt(table.shape[0])
    if source == grid:
        return table
    square = table.float().reshape(1, source, source, -1).permute(0, 3, 1, 2)
    out = F.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    return out.permute(0, 2, 3, 1).reshape(grid * grid, -1)


class Attention(nn.Module):
    """Self-attention over all patches or within square windows; q, k, v are fused head by head."""

    def __init__(self, vit, way: str):
        super().__init__()
        self.in_proj = nn.Linear(vit.width, 3 * vit.width)
        self.out_proj = nn.Linear(vit.width, vit.width)
        self.heads, self.way = vit.heads, way

    def forward(self, x_MPK: Tensor, window: int) -> Tensor:
        """`window`: patches a side of a window; 0: every patch sees every patch."""
        M, P, K = x_MPK.shape
        qkv = self.in_proj(x_MPK)
        if window:
            qkv = split_windows(qkv, window)
        qkv = qkv.view(*qkv.shape[:2], self.heads, 3, K // self.heads)
        q, k, v = qkv.permute(3, 0, 2, 1, 4)
        out = attend(q, k, v, way=self.way).transpose(1, 2).flatten(2)
        return self.out_proj(join_windows(out, P) if window else out)


def split_windows(x_MPK: Tensor, side: int) -> Tensor:
    """Row-major patches -> every window of side x side patches as an image of its own."""
    M, P, K = x_MPK.shape
    grid = math.isqrt(P)
    if grid % side:
        raise ValueError(f"windows of {side} patches do not tile {grid} x {grid} patches")
    x = x_MPK.view(M, grid // side, side, grid // side, side, K)
    return x.transpose(2, 3).reshape(-1, side * side, K)


def join_windows(x: Tensor, patches: int) -> Tensor:
    """The inverse of `split_windows`."""
    side, grid = math.isqrt(x.shape[1]), math.isqrt(patches)
    x = x.view(-1, grid // side, grid // side, side, side, x.shape[-1])
    return x.transpose(2, 3).reshape(-1, patches, x.shape[-1])


class VisionBlock(nn.Module):
    """x + attn(ln_1(x)), then x + mlp(ln_2(x)) with the exact GELU."""

    def __init__(self, vit, way: str):
        super().__init__()
        self.ln_1 = nn.LayerNorm(vit.width, vit.eps)
        self.attn = Attention(vit, way)
        self.ln_2 = nn.LayerNorm(vit.width, vit.eps)
        up, down = nn.Linear(vit.width, vit.mlp_width), nn.Linear(vit.mlp_width, vit.width)
        self.mlp = nn.ModuleDict({"c_fc": up, "c_proj": down})

    def forward(self, x_MPK: Tensor, window: int) -> Tensor:
        x_MPK = x_MPK + self.attn(self.ln_1(x_MPK), window)
        return x_MPK + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x_MPK))))


class CrossAttention(nn.Module):
    """torch.nn.MultiheadAttention's equations and names."""

    def __init__(self, width: int, heads: int, way: str):
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.heads, self.way = heads, way

    def forward(self, *qkv: Tensor) -> Tensor:
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x, weight, bias in zip(qkv, weights, biases, strict=True)
        )
        return self.out_proj(attend(q, k, v, way=self.way).transpose(1, 2).flatten(2))


class Resampler(nn.Module):
    """Learned queries read the patches in one cross-attention."""

    def __init__(self, adapter, vision_width: int, width: int, way: str):
        super().__init__()
        self.query = nn.Parameter(torch.empty(adapter.num_queries, width))
        self.kv_proj = nn.Linear(vision_width, width, bias=False)
        self.ln_q = nn.LayerNorm(width, adapter.eps)
        self.ln_kv = nn.LayerNorm(width, adapter.eps)
        self.attn = CrossAttention(width, adapter.heads, way)
        self.positions = adapter.positions

    def forward(self, x_MPK: Tensor) -> Tensor:
        queries, width = self.query.shape
        kv = self.ln_kv(self.kv_proj(x_MPK))
        q, k = self.ln_q(self.query), kv
        if self.positions:
            table = torch.from_numpy(sincos_2d(math.isqrt(queries), width)).to(q.device)
            q = q + table.to(q.dtype)
            k = kv + resample(table, math.isqrt(x_MPK.shape[1])).to(kv.dtype)
        return self.attn(q.expand(len(x_MPK), -1, -1), k, kv)


class Projector(nn.Module):
    """A query is what the patches of its cell say: side by side (mlp), or their mean (pooling)."""

    def __init__(self, adapter, vit, width: int):
        super().__init__()
        self.grid = math.isqrt(adapter.num_queries)
        self.kind = adapter.kind
        of_cell = (vit.image_size // vit.patch_size // self.grid) ** 2
        wide = vit.width * (of_cell if self.kind == "mlp" else 1)
        self.ln_kv = nn.LayerNorm(wide, adapter.eps)
        if self.kind == "mlp":
            self.kv_proj = nn.Linear(wide, width, bias=False)

    def forward(self, x_MPK: Tensor) -> Tensor:
        M, P, K = x_MPK.shape
        side = math.isqrt(P) // self.grid
        x = x_MPK.view(M, self.grid, side, self.grid, side, K).transpose(2, 3)
        x_MQCK = x.reshape(M, self.grid**2, side * side, K)
        if self.kind == "pooling":
            return self.ln_kv(x_MQCK.mean(dim=2))
        return F.gelu(self.kv_proj(self.ln_kv(x_MQCK.flatten(2))))


class Visual(nn.Module):
    """Vision tower, adapter and their projection."""

    def __init__(self, vit, adapter, width: int, way: str):
        super().__init__()
        self.vit = vit
        self.conv1 = nn.Conv2d(3, vit.width, vit.patch_size, vit.patch_size, bias=False)
        self.positional_embedding = nn.Parameter(torch.empty(vit.position_grid**2, vit.width))
        self.ln_pre = nn.LayerNorm(vit.width, vit.eps)
        blocks = nn.ModuleList(VisionBlock(vit, way) for _ in range(vit.layers))
        self.transformer = nn.ModuleDict({"resblocks": blocks})
        if adapter.kind == "cross_attention":
            self.attn_pool = Resampler(adapter, vit.width, width, way)
            self.ln_post = nn.LayerNorm(width, adapter.eps)
        else:
            self.attn_pool = Projector(adapter, vit, width)
            self.ln_post = nn.Identity()
        fan_in = vit.width if adapter.kind == "pooling" else width
        self.proj = nn.Parameter(torch.empty(fan_in, width))

    def forward(self, pixels_MRR3: Tensor) -> Tensor:
        """RGB bytes (M, R, R, 3), uint8 -> features (M, Q, D)."""
        vit = self.vit
        mean, std = (torch.tensor(x, device=pixels_MRR3.device) for x in (MEAN, STD))
        pixels = ((pixels_MRR3.float() / 255.0 - mean) / std).permute(0, 3, 1, 2)
        x_MPK = self.conv1(pixels.to(self.conv1.weight.dtype)).flatten(2).transpose(1, 2)
        positions = resample(self.positional_embedding, pixels.shape[-1] // vit.patch_size)
        x_MPK = self.ln_pre(x_MPK + positions.to(x_MPK.dtype))
        window = vit.window // vit.patch_size
        for i, block in enumerate(self.transformer["resblocks"], start=1):
            x_MPK = block(x_MPK, window if i % GLOBAL_EVERY else 0)
        return self.ln_post(self.attn_pool(x_MPK)) @ self.proj
