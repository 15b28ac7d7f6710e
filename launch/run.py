"""Train a stage: `python launch/run.py --config=configs/stage1.py --workdir=runs/stage1`.

The config file may take a variant after a colon (`configs/stage1.py:demo`), and any field can be
set on the command line (`--config.optim.steps=100`). A work directory that holds a checkpoint is
resumed, and its compiled programs are kept beside them. A run that is asked to end (SIGTERM,
SIGINT, SIGUSR1) saves first and exits with 75: the same command goes on.
"""

import os
import sys
from pathlib import Path

from absl import flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from launch import hosts, logs, pages, programs, stage
from qwenvl_jax import command_line
from qwenvl_jax.train.stop import Stop

_CONFIG = pages.define_flag()
_WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints, metrics and plots go.")
_MULTIHOST = flags.DEFINE_bool("multihost", False, "One process of a job over several hosts.")
_GPU_MEMORY = "0.92"  # of a GPU's; JAX by itself takes three quarters


def main(_) -> None:
    logs.start()
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", _GPU_MEMORY)
    if _MULTIHOST.value:
        hosts.join()
    programs.keep(_WORKDIR.value)
    with Stop() as stop:
        stage.train(_CONFIG.value, _WORKDIR.value, stop=stop)


if __name__ == "__main__":
    command_line.start(main, required=["config", "workdir"])
