"""A model ready to be asked: a work directory's newest checkpoint, or a run's present weights."""

import hashlib
import math
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from qwenvl_jax import settings, trees
from qwenvl_jax.checkpoint import intact, manifest, names, vocabulary
from qwenvl_jax.checkpoint.load import load_parameters
from qwenvl_jax.checkpoint.run_config import read as read_config
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.parallel import rules
from qwenvl_jax.parallel.mesh import MeshConfig, make_mesh
from qwenvl_jax.text.tokenizer import Tokenizer, load_tokenizer


class Checkpoint(NamedTuple):
    model: ModelConfig
    params: trees.Tree  # in the compute dtype
    tokenizer: Tokenizer
    run_config: dict  # of the run that wrote it
    step: int
    sha256: str | None  # of the step's manifest, which names every file's; None: not on disk
    mesh: Mesh  # where the parameters are; to be set with jax.set_mesh


def load_checkpoint(workdir: str | Path) -> Checkpoint:
    """Read the newest intact step over all devices of this process's job.

    Raises:
      ValueError: no config or no intact checkpoint there, or they do not fit each other.
      FileNotFoundError: the run's tokenizer is gone.
    """
    root = Path(workdir).absolute()
    run_config = read_config(root)
    model = settings.build(ModelConfig, run_config["model"], "config.model")
    tokenizer = load_tokenizer(vocabulary.find(root, run_config))
    step = intact.newest(root, verify=True)
    shapes = names.parameter_shapes(model)
    # Every token reads every weight: heads are split as far as they go, so that none has to travel.
    heads = math.gcd(model.vit.heads, model.adapter.heads, model.decoder.heads)
    tensor = math.gcd(heads, len(jax.devices()))
    mesh = make_mesh(MeshConfig(data=1, fsdp=-1, tensor=tensor))
    # The newest step was just verified; only a damaged one makes the search worth repeating.
    again = step != intact.newest(root, verify=False)
    params = load_parameters(root, shapes, rules.parameter_shardings(mesh, shapes), verify=again)
    params = jax.tree.map(lambda x: x.astype(model.dtype), params)
    listed = root / "checkpoints" / str(step) / manifest.NAME
    digest = hashlib.sha256(listed.read_bytes()).hexdigest()
    return Checkpoint(model, params, tokenizer, run_config, step, digest, mesh)
