"""Train a stage: `python launch/run.py --config=configs/stage1.py --workdir=runs/stage1`.

The config file may take a variant after a colon (`configs/stage1.py:demo`), and any field can be
set on the command line (`--config.optim.steps=100`). A work directory that holds a checkpoint is
resumed, and its compiled programs are kept beside them.
"""

import os
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from launch import hosts, logs, programs, stage

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="A file of configs/, `:variant` after it."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints, metrics and plots go.")
_MULTIHOST = flags.DEFINE_bool("multihost", False, "One process of a job over several hosts.")
_GPU_MEMORY = "0.92"  # of a GPU's; JAX by itself takes three quarters


def main(_) -> None:
    logs.start()
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", _GPU_MEMORY)
    if _MULTIHOST.value:
        hosts.join()
    programs.keep(_WORKDIR.value)
    try:
        stage.train(_CONFIG.value, _WORKDIR.value)
    except MemoryError as error:
        sys.exit(f"run: {error}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
