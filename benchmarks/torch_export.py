"""An export's own PyTorch code beside our model: errors, equal tokens, loading time and tokens/s.

    python benchmarks/torch_export.py [--models=reference,demo] [--checkpoint=WORKDIR]

Needs the torch extra. Each model is exported in float32 by the layout `own` and loaded by
transformers. Both sides read the same prompts, an image in each, and continue them greedily; the
error is the largest difference of logits over the largest logit. Tokens/s are those of a whole
`generate`, the reading of its prompts included. Rounds of both sides alternate, and medians count.
Without --checkpoint, weights are the reference numbers' or random.
"""

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import torchvision_operators
from launch.weights import export_weights, load_page
from qwenvl_jax import trees
from qwenvl_jax.checkpoint import names
from qwenvl_jax.checkpoint.load import load_parameters
from qwenvl_jax.checkpoint.manager import Checkpoints
from qwenvl_jax.checkpoint.policy import CheckpointConfig
from qwenvl_jax.checkpoint.stored import Stored
from qwenvl_jax.inference.generate import generate
from qwenvl_jax.model import qwenvl
from qwenvl_jax.model.config import AdapterConfig, DecoderConfig, ModelConfig, VitConfig
from qwenvl_jax.train import parity

ROOT = Path(__file__).resolve().parents[1]
# `tests/reference`, the same with 64 queries, the demo's sizes, and a decoder that no processor's
# cache holds.
TINY = ModelConfig.tiny()
MODELS = {
    "reference": TINY,
    "64 queries": dataclasses.replace(TINY, adapter=AdapterConfig(64, 2)),
    "demo": ModelConfig(
        VitConfig(64, 8, 128, 3, 4, 512, 8),
        AdapterConfig(16, 4),
        DecoderConfig(1024, 192, 4, 6, 512, 256, 11),
        dtype="float32",
        remat="none",
    ),
    "wide": ModelConfig(
        VitConfig(64, 16, 64, 1, 4, 128, 4),
        AdapterConfig(4, 4),
        DecoderConfig(32_000, 1024, 4, 8, 2752, 2048, 11),
        dtype="float32",
        remat="none",
    ),
}


def write_workdir(folder: Path, name: str) -> Path:
    """A work directory at step 0 with a model of MODELS."""
    config = MODELS[name]
    if name == "reference":
        config, params, _ = parity.load(ROOT / "tests" / "reference")
    else:
        params = jax.jit(lambda key: qwenvl.init(config, key))(jax.random.key(0))
    plain = json.loads(load_page(str(ROOT / "configs" / "stage1.py")).to_json())
    plain["model"] = dataclasses.asdict(config)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(plain))
    checkpoints = Checkpoints(folder, CheckpointConfig(), plain)
    moments, data = {"steps": np.zeros((), np.int32)}, np.zeros((0, 0), np.int64)
    params = jax.tree.map(np.asarray, params)
    checkpoints.save(0, params=params, opt_state=moments, frozen={}, data=data)
    checkpoints.close()
    return folder


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def prompts(config: ModelConfig, rows: int, words: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids of rows with one image each, and the images (B, 1, R, R, 3)."""
    rng, pad = np.random.default_rng(0), config.decoder.image_pad_id
    tokens = rng.integers(0, config.decoder.vocab_size - 1, (rows, words)).astype(np.int32)
    tokens += tokens >= pad  # any token but <imgpad>
    tokens[:, 1 : 1 + config.adapter.num_queries] = pad
    side = config.vit.image_size
    return tokens, rng.integers(0, 256, (rows, 1, side, side, 3), dtype=np.uint8)


def our_sides(workdir: Path, tokens: np.ndarray, images: np.ndarray):
    """(logits of the prompts, a function: number of new tokens -> tokens)."""
    stored = Stored(workdir)
    config = dataclasses.replace(stored.config, dtype="float32")
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = names.parameter_shapes(config)
    params: trees.Tree = load_parameters(workdir, shapes, jax.tree.map(lambda _: here, shapes))
    rows = parity.one_sample_rows(config, tokens, images[:, 0])
    with jax.default_matmul_precision("highest"):
        logits, _ = parity.forward(config, params, rows, keep=False)
    lengths = np.full(len(tokens), tokens.shape[1], np.int32)
    return np.asarray(logits), lambda new: generate(
        config, params, tokens, lengths, images, max_new_tokens=new, stop_ids=()
    )


def measure(name: str, workdir: Path, args: argparse.Namespace) -> None:
    """One line of the table."""
    import torch
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "export"
        export_weights(workdir, out, layout="own", dtype="float32", shard_bytes=10**9)
        size = sum(path.stat().st_size for path in out.glob("*.safetensors")) / 1e6

        def load():
            return AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True)

        model = load()  # once before, for the code's own import
        loading = statistics.median(seconds(load) for _ in range(args.rounds))
        tokens, images = prompts(Stored(workdir).config, args.rows, args.prompt)
        want, ours = our_sides(workdir, tokens, images)
        given = dict(input_ids=torch.from_numpy(tokens).long(), pixel_values=torch.tensor(images))
        with torch.no_grad():
            error = parity.relative_error(model(**given).logits, want)

        def theirs(new: int):
            ids = model.generate(**given, max_new_tokens=new, eos_token_id=None)
            return ids[:, tokens.shape[1] :].numpy()

        equal = np.sum(np.asarray(ours(args.new)) == theirs(args.new))
        speeds: dict[str, list[float]] = {"ours": [], "torch": []}
        for _ in range(args.rounds):
            for side, run in (("ours", ours), ("torch", theirs)):
                speeds[side].append(args.rows * args.new / seconds(lambda run=run: run(args.new)))
    middle = {side: statistics.median(values) for side, values in speeds.items()}
    print(
        f"{name:<12}{size:>8.1f}{error:>10.1e}{equal:>8} of {args.rows * args.new:<5}"
        f"{loading:>9.2f}{middle['ours']:>10.0f}{middle['torch']:>10.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", default=",".join(MODELS), help=f"of {', '.join(MODELS)}")
    parser.add_argument("--checkpoint", help="a work directory in their place")
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=96, help="tokens, an image's among them")
    parser.add_argument("--new", type=int, default=33)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of PyTorch; other work on the cores slows it")
    args = parser.parse_args()
    if unknown := set(args.models.split(",")) - set(MODELS):
        parser.error(f"--models: {unknown.pop()!r} is none of {', '.join(MODELS)}")
    operators = torchvision_operators.define()  # noqa: F841  they live as long as this name
    import torch
    from transformers.utils import logging

    if args.threads:
        torch.set_num_threads(args.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(
        f"{jax.devices()[0].device_kind}, {cores} cores, load {os.getloadavg()[0]:.1f}; float32,"
        f" {torch.get_num_threads()} threads of PyTorch;"
        f" {args.rows} prompts of {args.prompt}, {args.new} new tokens; medians of {args.rounds}"
    )
    print(
        f"{'model':<12}{'MB':>8}{'error':>10}{'equal tokens':>17}{'load s':>9}{'ours/s':>10}"
        f"{'torch/s':>10}"
    )
    if args.checkpoint:
        measure(Path(args.checkpoint).name, Path(args.checkpoint), args)
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models.split(","):
            measure(name, write_workdir(Path(folder) / name, name), args)


if __name__ == "__main__":
    main()
