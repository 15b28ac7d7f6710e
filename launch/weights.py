"""What convert's commands do: work directories from PyTorch ones and back, tokenizer included."""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from qwenvl_jax import settings
from qwenvl_jax.checkpoint import exported, names, run_config
from qwenvl_jax.checkpoint.exported import Check
from qwenvl_jax.checkpoint.imported import import_parameters
from qwenvl_jax.checkpoint.manager import Checkpoints
from qwenvl_jax.checkpoint.policy import CheckpointConfig
from qwenvl_jax.checkpoint.released import own_layout
from qwenvl_jax.checkpoint.released_config import model_config
from qwenvl_jax.checkpoint.stored import Stored
from qwenvl_jax.inference import round_trip
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.parallel import rules
from qwenvl_jax.parallel.mesh import MeshConfig, make_mesh
from qwenvl_jax.text.tokenizer import Tokenizer, load_tokenizer

# Words, figures, scripts, spaces, composed letters, a spelled special token: where vocabularies
# differ.
_TEXTS = (
    "A dog on a red sofa, 12345 of them.\n\n  Isn't it?",
    "\u4e00\u53ea\u72d7\u5728\u7ea2\u8272\u6c99\u53d1\u4e0a\u3002",
    "caf\u00e9 cafe\u0301 \U0001f415 <box>(1,2),(3,4)</box> <|endoftext|>",
)


def load_page(page: str) -> ConfigDict:
    """`configs/stage1.py:demo` -> the config that the page makes of `demo`."""
    path, _, arg = page.partition(":")
    if not Path(path).is_file():
        raise ValueError(f"config page {path}: no such file")
    spec = importlib.util.spec_from_file_location("page", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(arg)


def import_weights(
    sources: Mapping[str, str], workdir: str | Path, *, page: str, verify: bool = True
) -> None:
    """Write a work directory whose step 0 holds the sources' parameters, the rest at random.

    Args:
      sources: `qwen_vl`, `vit`, `decoder` -> directory or file.
      page: the config page that says the rest of the run's config.
      verify: compare a source's files with its manifest first, where it has one.

    Raises:
      ValueError: nothing is given, the work directory is not empty, a source does not fit, or this
      is one process of several.
    """
    workdir = Path(workdir)
    if jax.process_count() > 1:
        raise ValueError(
            f"import: one process writes a work directory, and this is one of"
            f" {jax.process_count()}; a job over several reads config.init.vit, .adapter and"
            " .decoder itself, each process its own shards"
        )
    if not sources:
        raise ValueError("import: give at least one of --qwen_vl, --decoder, --vit")
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        # A source, say, whose own config.json would be lost.
        raise ValueError(f"import: {workdir} is not empty; name a new directory")
    config = load_page(page)
    directory = Path(sources.get("qwen_vl", ""))
    if "qwen_vl" in sources and (directory / "config.json").is_file():
        _take_sizes(config, json.loads((directory / "config.json").read_text("utf-8")))
    model = settings.build(ModelConfig, config.model.to_dict(), "config.model")
    # Copies along `data` would only be thrown away again: every device holds another part.
    mesh = make_mesh(MeshConfig(data=1, fsdp=-1, tensor=config.mesh.tensor))
    shardings = rules.parameter_shardings(mesh, names.parameter_shapes(model))
    params = import_parameters(model, sources, shardings=shardings, seed=config.seed, verify=verify)
    plain = json.loads(config.to_json())
    workdir.mkdir(parents=True, exist_ok=True)
    run_config.write(workdir, plain)
    checkpoints = Checkpoints(workdir, CheckpointConfig(), plain)
    checkpoints.save(
        0,
        params=params,
        opt_state={"steps": np.zeros((), np.int32)},
        frozen={},
        data=np.zeros((0, 0), np.int64),
    )
    checkpoints.close()


def _take_sizes(config: ConfigDict, released: dict) -> None:
    """The released directory's sizes in place of the page's, in the data as well."""
    model = model_config(released)
    for tower in ("vit", "adapter", "decoder"):
        for key in config.model[tower]:
            config.model[tower][key] = getattr(getattr(model, tower), key)
    config.data.image_size = model.vit.image_size
    config.data.num_queries = model.adapter.num_queries


def export_weights(
    workdir: str | Path, folder: str | Path, *, layout: str, dtype: str, shard_bytes: int
) -> None:
    """Write a work directory's newest step as a directory in the layout `released` or `own`."""
    stored = Stored(workdir)
    tokenizer = _tokenizer(stored)
    if layout == "own":
        special = tokenizer.specials
        own_layout.export(
            stored,
            Path(folder),
            tokenizer=Path(tokenizer.path),
            stop_ids=(special.eos, special.im_end, special.im_start),
            dtype=dtype,
            shard_bytes=shard_bytes,
        )
        return
    exported.export(
        stored,
        folder,
        tokenizer=Path(tokenizer.path),
        eos_id=tokenizer.specials.eos,
        dtype=dtype,
        shard_bytes=shard_bytes,
    )


def verify(workdir: str | Path, folder: str | Path) -> Iterator[Check]:
    """Every check of an export against its work directory."""
    stored, folder = Stored(workdir), Path(folder)
    yield from round_trip.verify(stored, folder)
    ours = _tokenizer(stored)
    theirs = load_tokenizer(folder / exported.vocabulary_name(Path(ours.path)))
    same = [
        ours.encode(text, special=special) == theirs.encode(text, special=special)
        for text in _TEXTS
        for special in (False, True)
    ]
    yield Check("tokenizer ids", f"{sum(same)} of {len(same)} texts", all(same))


def _tokenizer(stored: Stored) -> Tokenizer:
    return load_tokenizer(stored.run_config["data"]["tokenizer"] or None)
