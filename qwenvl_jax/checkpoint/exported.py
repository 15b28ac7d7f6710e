"""A work directory -> a directory in the released PyTorch layout, and the tensors compared back."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import convert, manifest, names, released_code
from qwenvl_jax.checkpoint import safetensors_writer as writer
from qwenvl_jax.checkpoint.json_file import read_object
from qwenvl_jax.checkpoint.model_card import model_card, released_loading
from qwenvl_jax.checkpoint.released import own_layout
from qwenvl_jax.checkpoint.released_code import Vocabulary
from qwenvl_jax.checkpoint.released_config import QUERIES, model_config, released_config
from qwenvl_jax.checkpoint.stored import Stored
from qwenvl_jax.checkpoint.weights import Weights, open_weights
from qwenvl_jax.model.config import ModelConfig

# Keys of `config.json` for whoever loads an export by the released code and gets other numbers.
LIMITS = "not_run_by_released_code"


class Export(NamedTuple):
    """How to write an export.

    dtype: of every tensor but the fixed positions. shard_bytes: of a file at most. code: a folder
    with the released `.py` files to copy in. chat: whether the model was trained on dialogues.
    """

    dtype: str = "bfloat16"
    shard_bytes: int = 5 * 10**9
    code: Path | None = None
    chat: bool = False


def export(
    stored: Stored, folder: str | Path, *, vocabulary: Vocabulary, options: Export
) -> list[str]:
    """Write weights, configs, vocabulary, model card and, last, the manifest.

    Returns:
      What a user of the released code, or of a server that follows it, has to know: a line each.

    Raises:
      ValueError: sizes that the released layout cannot say, a folder that is not empty, or code
        that is not whole.
    """
    folder = Path(folder)
    convert.check_new(folder)
    # These refuse before anything is written.
    values = released_config(stored.config, dtype=options.dtype)
    span: int | None = QUERIES
    if options.code is not None:
        released_code.check_code(options.code)
        span = released_code.span_of(options.code)
    limits = released_code.limits(stored.config, vocabulary, span=span)
    digests = convert.save(
        stored.leaves(), folder,
        config=stored.config, dtype=options.dtype, shard_bytes=options.shard_bytes,
    )  # fmt: skip
    notes = _notes(stored.config, limits, options)
    values["auto_map"] = released_code.MODEL_MAP
    if limits:
        values[LIMITS] = limits
    generation = released_code.generation_config(stored.config, vocabulary, chat=options.chat)
    released_code.write_json(folder / "config.json", values)
    released_code.write_json(folder / "generation_config.json", generation)
    if vocabulary.released:
        about = released_code.tokenizer_config(stored.config)
        released_code.write_json(folder / "tokenizer_config.json", about)
    if options.code is not None:
        released_code.copy_code(options.code, folder)
    shutil.copyfile(vocabulary.path, folder / vocabulary.name)
    loading = released_loading(options.chat, notes)
    card = model_card(stored, dtype=options.dtype, loading=loading)
    (folder / "README.md").write_text(card, "utf-8")
    manifest.write(folder, known=digests)
    return notes


def _notes(config: ModelConfig, limits: Mapping[str, str], options: Export) -> list[str]:
    notes = [
        f"the released code does not run it as it is: {key}: {why}" for key, why in limits.items()
    ]
    notes += released_code.server_limits(config)
    if options.code is None:
        notes.append(
            "the released code is not in it: give --code=DIR, or copy"
            f" {', '.join(released_code.FILES)} into it"
        )
    return notes


class Check(NamedTuple):
    """One line of a verification."""

    what: str
    found: str
    ok: bool


def exported_config(stored: Stored, folder: Path) -> ModelConfig:
    """The model that an exported `config.json` describes, computed as the run computes."""
    values = read_object(folder / "config.json")
    run = stored.config
    read = own_layout.model_config if own_layout.is_own(values) else model_config
    return read(values, dtype=run.dtype, remat=run.remat, scan_layers=run.scan_layers)


def compare_tensors(stored: Stored, folder: Path) -> Iterator[Check]:
    """Names, shapes, dtypes and sha256 of every tensor, in both directions."""
    weights, rows = open_weights(folder), own_layout.rows(stored.config)
    kinds = {weights.dtype(n) for n in weights.names if n != names.POSITIONS}
    dtype = next((k for k, v in convert.DTYPES.items() if kinds == {v}), None)
    if dtype is None:
        yield Check("dtypes", f"{sorted(map(str, kinds))} instead of one", False)
        return
    expected = {t.name: t for t in convert.released_tensors(stored.config, dtype, rows)}
    found = {n: writer.Tensor(n, weights.shape(n), weights.dtype(n)) for n in weights.names}
    wrong = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
    summary = f"{len(expected) - len(wrong)} of {len(expected)} {dtype}"
    yield Check("names, shapes, dtypes", _with_first(summary, wrong), not wrong)
    if wrong:
        return
    wrong = [
        name
        for name, tensor in names.export(stored.leaves(), rows)
        if _sha256(tensor, found[name].dtype) != _sha256(weights.read(name), found[name].dtype)
    ]
    summary = f"{len(found) - len(wrong)} of {len(found)}"
    yield Check("sha256 of tensors, ours to released", _with_first(summary, wrong), not wrong)
    yield _compare_back(stored, weights)


def _compare_back(stored: Stored, weights: Weights) -> Check:
    """Every parameter as read back, beside what is stored in the exported dtype."""
    readers = convert.readers(stored.config, weights, rows=own_layout.rows(stored.config))
    wrong = [
        path
        for path, read in readers.items()
        if not all(_same_bits(read(i), x, read.dtype) for i, x in stored.leaf(path).chunks())
    ]
    summary = f"{len(readers) - len(wrong)} of {len(readers)}"
    return Check("bits of parameters, released to ours", _with_first(summary, wrong), not wrong)


def _same_bits(x: np.ndarray, y: np.ndarray, dtype: np.dtype) -> bool:
    words = np.dtype(f"u{dtype.itemsize}")
    return np.array_equal(x.view(words), y.astype(dtype, copy=False).view(words))


def _with_first(summary: str, wrong: list[str]) -> str:
    return f"{summary}; first that differs: {wrong[0]}" if wrong else summary


def _sha256(x: Any, dtype: np.dtype) -> str:
    digest = hashlib.sha256()
    for panel in writer.panels(x, dtype, lambda size: np.empty(size, np.uint8)):
        digest.update(panel)
    return digest.hexdigest()


def stored_parameters(stored: Stored, dtype: np.dtype) -> trees.Tree:
    """All parameters on the first device, rounded to an export's dtype."""
    return jax.tree.map(lambda x: jax.device_put(np.asarray(x, dtype)), stored.leaves())


def exported_parameters(config: ModelConfig, folder: Path) -> trees.Tree:
    """All parameters of a released directory on the first device, in the file's dtype."""
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shardings = jax.tree.map(lambda _: here, names.parameter_shapes(config))
    rows = own_layout.rows(config)
    return convert.load(config, open_weights(folder), rows=rows, shardings=shardings)
