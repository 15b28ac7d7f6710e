"""What convert's commands do: work directories from PyTorch ones and back, tokenizer included."""

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from launch.chat_format import keep_generation, trained_format
from launch.source_settings import take_settings
from qwenvl_jax import settings, trees
from qwenvl_jax.checkpoint import convert, exported, names, run_config, vocabulary
from qwenvl_jax.checkpoint.exported import Check, Export
from qwenvl_jax.checkpoint.imported import import_parameters, verify_sources
from qwenvl_jax.checkpoint.manager import Checkpoints
from qwenvl_jax.checkpoint.policy import CheckpointConfig
from qwenvl_jax.checkpoint.released import own_layout
from qwenvl_jax.checkpoint.released_code import Vocabulary
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
    sources: Mapping[str, str],
    workdir: str | Path,
    *,
    page: str,
    verify: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Write a work directory whose step 0 holds the sources' parameters, the rest at random.

    Sizes and settings that a source's configuration states take the place of the page's.

    Args:
      sources: `qwen_vl`, `vit`, `decoder` -> directory or file.
      page: the config page that says the rest of the run's config.
      verify: compare a source's files with its manifest first, where it has one.
      say: is told each setting that a source gives another value than the page.

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
    convert.check_new(workdir, job="import")
    if verify:
        verify_sources(sources)
    config = load_page(page)
    for line in take_settings(config, sources):
        say(line)
    model = settings.build(ModelConfig, config.model.to_dict(), "config.model")
    # Copies along `data` would only be thrown away again: every device holds another part.
    mesh = make_mesh(MeshConfig(data=1, fsdp=-1, tensor=config.mesh.tensor))
    shardings = rules.parameter_shardings(mesh, names.parameter_shapes(model))
    params = import_parameters(model, sources, shardings=shardings, seed=config.seed)
    plain = json.loads(config.to_json())
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        _save(workdir, plain, params, sources)
    except BaseException:
        # It was empty before: half a work directory would only stand in the next one's way.
        shutil.rmtree(workdir)
        raise


def _save(workdir: Path, plain: dict, params: trees.Tree, sources: Mapping[str, str]) -> None:
    run_config.write(workdir, plain)
    keep_generation(sources, workdir)
    if plain["data"]["tokenizer"]:
        vocabulary.keep(workdir, plain["data"]["tokenizer"])
    checkpoints = Checkpoints(workdir, CheckpointConfig(), plain)
    checkpoints.save(
        0,
        params=params,
        opt_state={"steps": np.zeros((), np.int32)},
        frozen={},
        data=np.zeros((0, 0), np.int64),
    )
    checkpoints.close()
    # Looked at while it was copied; an error in the writer's threads would end in many tracebacks.
    leaves = trees.flatten(params).values()
    convert.refuse_not_finite(leaf for leaf in leaves if isinstance(leaf, convert.Reader))


def export_weights(
    workdir: str | Path,
    folder: str | Path,
    *,
    layout: str = "released",
    dtype: str,
    shard_bytes: int,
    code: str | Path | None = None,
    chat_format: str = "auto",
    say: Callable[[str], None] = print,
) -> None:
    """Write a work directory's newest step as a directory in the layout `released` or `own`.

    Args:
      code: a folder with the released `.py` files to copy in.
      chat_format: `raw` or `chatml`, or `auto`: by what the model was trained on.
      say: is told the format with its reason, and what the released code cannot run.
    """
    for name, given in (("code", code is not None), ("chat_format", chat_format != "auto")):
        if layout == "own" and given:
            raise ValueError(f"export: --{name} is for --layout=released; layout own has its code")
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
    chosen, why = trained_format(stored) if chat_format == "auto" else (chat_format, "as asked")
    special = tokenizer.specials
    words = Vocabulary(
        Path(tokenizer.path), tokenizer.vocab_size, special.eos, special.im_start, special.im_end,
        special.img,
    )  # fmt: skip
    options = Export(dtype, shard_bytes, None if code is None else Path(code), chosen == "chatml")
    notes = exported.export(stored, folder, vocabulary=words, options=options)
    say(f"generation_config.json: chat_format {chosen} ({why})")
    for note in notes:
        say(f"note: {note}")


def verify(workdir: str | Path, folder: str | Path) -> Iterator[Check]:
    """Every check of an export against its work directory."""
    stored, folder = Stored(workdir), Path(folder)
    yield from round_trip.verify(stored, folder)
    ours = _tokenizer(stored)
    theirs = load_tokenizer(folder / vocabulary.name(Path(ours.path)))
    same = [
        ours.encode(text, special=special) == theirs.encode(text, special=special)
        for text in _TEXTS
        for special in (False, True)
    ]
    yield Check("tokenizer ids", f"{sum(same)} of {len(same)} texts", all(same))


def _tokenizer(stored: Stored) -> Tokenizer:
    return load_tokenizer(vocabulary.find(stored.workdir, stored.run_config))
