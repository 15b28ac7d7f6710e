"""A training step in plain PyTorch eager: ViT, adapter, decoder, AdamW; float32 on a CPU, bfloat16
by autocast on CUDA.

Written for `benchmarks/train_step.py`, which runs it as a process of its own and checks that its
losses are ours. It uses what an eager user would: `scaled_dot_product_attention`, fused AdamW,
whole logits.

Two layouts: `packed` takes our rows as they are, with a dense mask; `padded` has one sample a row,
padded to the longest of the batch, for which causality is mask enough.
"""

import argparse
import json
import math
import re
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

IGNORE = -100
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])


def attend(q, k, v, heads: int, **options):
    """Multi-head attention over (B, T, D) inputs whose heads lie side by side."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2).flatten(-2)


class VitAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        return self.out(attend(*self.qkv(x).chunk(3, -1), self.heads))


class VitMlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


class VitBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.ln_1, self.ln_2 = (nn.LayerNorm(c["width"], c["eps"]) for _ in range(2))
        self.attn = VitAttention(c["width"], c["heads"])
        self.mlp = VitMlp(c["width"], c["mlp_width"])

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Vit(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.size = c["patch_size"]
        if c["image_size"] // self.size != c["position_grid"]:
            raise ValueError("the peer has no resampling: the ViT's position grid must fit")
        self.patch = nn.Linear(3 * self.size**2, c["width"], bias=False)
        self.positions = nn.Parameter(torch.zeros(c["position_grid"] ** 2, c["width"]))
        self.ln_pre = nn.LayerNorm(c["width"], c["eps"])
        self.blocks = nn.ModuleList(VitBlock(c) for _ in range(c["layers"]))

    def forward(self, images):
        x = (images.float() / 255 - MEAN.to(images.device)) / STD.to(images.device)
        x = x.unflatten(2, (-1, self.size)).unflatten(1, (-1, self.size)).transpose(2, 3)
        x = self.ln_pre(self.patch(x.flatten(3).flatten(1, 2)) + self.positions)
        for block in self.blocks:
            x = block(x)
        return x


class CrossAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, q, k, v):
        return self.out(attend(self.q(q), self.k(k), self.v(v), self.heads))


def sincos(grid: int, width: int) -> torch.Tensor:
    """(grid^2, width): columns in the first half, rows in the second."""
    rates = 10000.0 ** (-torch.arange(width // 4).double() * 4 / width)
    row, column = torch.meshgrid(*[torch.arange(grid).double()] * 2, indexing="ij")
    parts = [f(x[..., None] * rates) for x in (column, row) for f in (torch.sin, torch.cos)]
    return torch.cat(parts, -1).flatten(0, 1).float()


class Adapter(nn.Module):
    def __init__(self, c, width, vit):
        super().__init__()
        grid, patches = math.isqrt(c["num_queries"]), vit["image_size"] // vit["patch_size"]
        table = sincos(grid, width)
        square = table.T.reshape(1, width, grid, grid)
        if grid != patches:
            square = F.interpolate(square, size=(patches, patches), mode="bicubic")
        self.register_buffer("q_positions", table, persistent=False)
        self.register_buffer("k_positions", square[0].flatten(1).T.contiguous(), persistent=False)
        self.query = nn.Parameter(torch.zeros(c["num_queries"], width))
        self.kv_proj = nn.Linear(vit["width"], width, bias=False)
        self.ln_q, self.ln_kv, self.ln_post = (nn.LayerNorm(width, c["eps"]) for _ in range(3))
        self.attn = CrossAttention(width, c["heads"])
        self.proj = nn.Linear(width, width, bias=False)

    def forward(self, x):
        kv = self.ln_kv(self.kv_proj(x))
        q = (self.ln_q(self.query) + self.q_positions).expand(len(x), -1, -1)
        return self.proj(self.ln_post(self.attn(q, kv + self.k_positions, kv)))


class DecoderAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv = heads, nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x, cos, sin, options):
        q, k, v = self.qkv(x).chunk(3, -1)
        q, k = (turn(y.unflatten(-1, (self.heads, -1)), cos, sin).flatten(-2) for y in (q, k))
        return self.out(attend(q, k, v, self.heads, **options))


def turn(x, cos, sin):
    """Half-split rotation of (B, T, N, H)."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class DecoderMlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        return self.down(self.up(x) * F.silu(self.gate(x)))


class DecoderBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.ln_1, self.ln_2 = (nn.RMSNorm(c["width"], c["eps"]) for _ in range(2))
        self.attn = DecoderAttention(c["width"], c["heads"])
        self.mlp = DecoderMlp(c["width"], c["mlp_width"])

    def forward(self, x, cos, sin, options):
        x = x + self.attn(self.ln_1(x), cos, sin, options)
        return x + self.mlp(self.ln_2(x))


class Decoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.half, self.base = c["width"] // c["heads"] // 2, c["rope_base"]
        self.embedding = nn.Parameter(torch.zeros(c["vocab_size"], c["width"]))
        self.blocks = nn.ModuleList(DecoderBlock(c) for _ in range(c["layers"]))
        self.ln_f = nn.RMSNorm(c["width"], c["eps"])
        self.head = nn.Linear(c["width"], c["vocab_size"], bias=False)

    def forward(self, x, positions, options):
        rates = self.base ** (-torch.arange(self.half, device=x.device) / self.half)
        angles = (positions[..., None] * rates)[:, :, None]
        for block in self.blocks:
            x = block(x, angles.cos(), angles.sin(), options)
        return self.head(self.ln_f(x))


class QwenVL(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.pad = c["decoder"]["image_pad_id"]
        self.vit = Vit(c["vit"])
        self.adapter = Adapter(c["adapter"], c["decoder"]["width"], c["vit"])
        self.decoder = Decoder(c["decoder"])

    def loss(self, batch: dict, layout: str) -> torch.Tensor:
        """Mean loss of the labelled tokens, nats."""
        features = self.adapter(self.vit(batch["images"].flatten(0, 1)))
        features = features.unflatten(0, batch["images"].shape[:2])[batch["image_mask"]]
        x = self.decoder.embedding[batch["tokens"]]
        x = x.masked_scatter((batch["tokens"] == self.pad)[..., None], features.to(x.dtype))
        positions, segments = batch["positions"], batch["segments"]
        options = {"is_causal": True}
        if layout == "packed":
            same = segments[:, :, None] == segments[:, None]
            options = {"attn_mask": (same & (positions[:, None] <= positions[..., None]))[:, None]}
        logits = self.decoder(x, positions, options)
        return F.cross_entropy(
            logits.flatten(0, 1).float(), batch["targets"].flatten(), ignore_index=IGNORE
        )


def our_path(name: str) -> str:
    """`vit.blocks.0.attn.qkv.weight` -> `vit/blocks/attn/qkv/kernel`."""
    norm = re.search(r"\bln_\w+\.weight$", name)
    name = re.sub(r"\.\d+\.", ".", name).replace(".weight", ".scale" if norm else ".kernel")
    return name.replace(".", "/")


def load(model: nn.Module, weights: dict[str, np.ndarray]) -> None:
    """Copy our starting weights, matrices transposed, stacked layers taken apart."""
    weights = {path: weights[path] for path in weights}  # an open file would read a stack a layer
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            value = weights[our_path(name)]
            layer = re.search(r"\.(\d+)\.", name)
            value = torch.from_numpy(value[int(layer[1])] if layer else value)
            if name.endswith("weight") and parameter.ndim == 2:
                value = value.reshape(parameter.shape[::-1]).T
            parameter.copy_(value.reshape(parameter.shape))


def make_optimizer(model: nn.Module, c: dict) -> torch.optim.Optimizer:
    """AdamW on the trainable parameters; sets the others to need no gradient."""
    groups = {True: [], False: []}
    for name, parameter in model.named_parameters():
        path = our_path(name)
        parameter.requires_grad_(re.fullmatch(c["trainable"], path) is not None)
        if parameter.requires_grad:
            groups[re.fullmatch(c["no_decay"], path) is None].append(parameter)
    groups = [
        {"params": groups[decay], "weight_decay": decay * c["weight_decay"]} for decay in groups
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(c["b1"], c["b2"]), eps=c["eps"], fused=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layout", choices=("packed", "padded"), required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    about = json.loads((args.folder / "about.json").read_text())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        model = QwenVL(about["model"])
    with np.load(args.folder / "weights.npz") as weights:
        load(model, weights)
    if args.compile:
        for block in (*model.vit.blocks, *model.decoder.blocks):  # one program a tower
            block.compile()
    optimizer = make_optimizer(model, about["optim"])
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    seconds, losses = [], []
    for step, rate in enumerate(about["rates"]):
        with np.load(args.folder / f"{args.layout}_{step}.npz") as file:
            arrays = dict(file)
        start = time.perf_counter()
        batch = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = model.loss(batch, args.layout)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, about["optim"]["clip_norm"])
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    print(
        json.dumps({"seconds": seconds, "losses": losses, "version": f"torch {torch.__version__}"})
    )


if __name__ == "__main__":
    main()
