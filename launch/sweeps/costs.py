"""What a run cost."""

import json

import numpy as np

from launch.sweeps.plan import Run
from qwenvl_jax.train.metrics import read_metrics

# What names a column, in order.
COLUMNS = {
    "step_seconds": "median seconds a step",
    "samples_per_step": "samples a step",
    "gflops_per_sample": "ideal GFLOPs a sample",
    "memory_mib": "MiB a device, as compiled",
    "tokens_per_image": "tokens an image",
    "padding": "share of padding",
    "training_seconds": "seconds of steps, start and scoring left out",
}


def costs(run: Run) -> dict[str, float]:
    """Of a finished run, by the names of COLUMNS."""
    lines = [line for line in read_metrics(run.folder / "metrics.jsonl") if "samples" in line]
    total = {name: sum(line[name] for line in lines) for name in ("samples", "flops")}
    memory = json.loads((run.folder / "memory.json").read_text("utf-8"))
    # The first step waits for the first batch.
    times = [line["seconds"] for line in lines[1:] or lines]
    return {
        "step_seconds": float(np.median(times)),
        "samples_per_step": total["samples"] / len(lines),
        "gflops_per_sample": total["flops"] / max(total["samples"], 1) / 1e9,
        "memory_mib": sum(memory.values()) / 2**20,
        "tokens_per_image": run.config["model"]["adapter"]["num_queries"] + 2,
        "padding": float(np.mean([line["padding"] for line in lines])),
        "training_seconds": sum(line["seconds"] for line in lines),
    }
