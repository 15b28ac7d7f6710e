"""Greedy decoding with a cache in eager PyTorch: what `benchmarks/decode.py` starts beside ours.

It reads our weights and prompts from a file, keeps weights as `torch.nn.Linear` does, writes keys
and values into a cache of full length and attends to its filled slots. Prints what it said and how
long a step took, as JSON.
"""

import json
import os
import statistics
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F


def main(path: str) -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_grad_enabled(False)
    with np.load(path) as file:
        given = {name: torch.from_numpy(file[name]) for name in file.files}
    model = Decoder(given)
    rounds, new = int(given["rounds"]), int(given["new"])
    tokens = model.generate(given["tokens"].long(), new)
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        model.generate(given["tokens"].long(), 1)
        first = time.perf_counter() - start
        start = time.perf_counter()
        model.generate(given["tokens"].long(), new)
        found.append((time.perf_counter() - start - first) / (new - 1))
    print(json.dumps({"tokens": tokens.tolist(), "step": statistics.median(found)}))


class Decoder:
    """Qwen's decoder as plain functions of tensors."""

    def __init__(self, given: dict[str, torch.Tensor]):
        self.embedding, self.eps = given["embedding"], float(given["eps"])
        self.head = given["head/kernel"].T.contiguous()
        self.last = given["ln_f/scale"]
        self.layers = []
        for i in range(len(given["blocks/ln_1/scale"])):
            layer = {n: given[f"blocks/{n}"][i] for n in ("ln_1/scale", "ln_2/scale")}
            kernel = given["blocks/attn/qkv/kernel"][i]
            layer["qkv"] = kernel.reshape(len(kernel), -1).T.contiguous()
            layer["bias"] = given["blocks/attn/qkv/bias"][i].reshape(-1)
            out = given["blocks/attn/out/kernel"][i]
            self.heads, self.head_width = out.shape[:2]
            layer["out"] = out.reshape(-1, out.shape[-1]).T.contiguous()
            for name in ("gate", "up", "down"):
                layer[name] = given[f"blocks/mlp/{name}/kernel"][i].T.contiguous()
            self.layers.append(layer)

    def generate(self, tokens: torch.Tensor, new: int) -> torch.Tensor:
        """The likeliest `new` tokens of every row."""
        rows, length = tokens.shape
        shape = (len(self.layers), 2, rows, self.heads, length + new, self.head_width)
        cache, said = torch.zeros(shape), []
        token, begin = tokens, 0
        for _ in range(new):
            hidden = self._forward(token, begin, cache)[:, -1]
            begin += token.shape[1]
            token = F.linear(hidden, self.head).argmax(-1, keepdim=True)
            said.append(token)
        return torch.cat(said, 1)

    def _forward(self, tokens: torch.Tensor, begin: int, cache: torch.Tensor) -> torch.Tensor:
        x = self.embedding[tokens]
        rows, count = tokens.shape
        end = begin + count
        rates = 10000.0 ** -(torch.arange(0, self.head_width, 2) / self.head_width)
        angles = torch.arange(begin, end)[:, None] * rates
        cos, sin = (torch.cat([f(angles)] * 2, -1) for f in (torch.cos, torch.sin))
        for layer, (keys, values) in zip(self.layers, cache):
            normed = self._norm(x, layer["ln_1/scale"])
            qkv = F.linear(normed, layer["qkv"], layer["bias"])
            qkv = qkv.view(rows, count, 3, self.heads, self.head_width).permute(2, 0, 3, 1, 4)
            q, k = (self._rotate(y, cos, sin) for y in qkv[:2])
            keys[:, :, begin:end], values[:, :, begin:end] = k, qkv[2]
            seen = keys[:, :, :end], values[:, :, :end]
            mixed = F.scaled_dot_product_attention(q, *seen, is_causal=count > 1)
            x = x + F.linear(mixed.transpose(1, 2).reshape(rows, count, -1), layer["out"])
            normed = self._norm(x, layer["ln_2/scale"])
            gated = F.linear(normed, layer["up"]) * F.silu(F.linear(normed, layer["gate"]))
            x = x + F.linear(gated, layer["down"])
        return self._norm(x, self.last)

    def _norm(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * scale

    @staticmethod
    def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat([-second, first], -1) * sin


if __name__ == "__main__":
    main(sys.argv[1])
