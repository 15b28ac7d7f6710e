"""Tensors of a PyTorch directory or file, read one at a time: safetensors, or `.bin` through torch.

    weights = open_weights("Qwen-VL")
    weights.shape("lm_head.weight"), weights.read("lm_head.weight")

A file is mapped, not read: slicing what `read` returns touches only those pages. Nothing is
unpickled but by `torch.load(weights_only=True)`, and an index names files of its own directory.
"""

import functools
import json
import struct
from collections.abc import Iterable
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from qwenvl_jax.checkpoint import manifest
from qwenvl_jax.checkpoint.json_file import read_object
from qwenvl_jax.checkpoint.torch_file import Entry, TorchFile
from qwenvl_jax.git_lfs import refuse_pointer

# Where a directory keeps its tensors, in the order in which they are looked for.
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
OPENCLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
FILES = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
DTYPES = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F64": np.dtype(np.float64),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(bool),
}


class _Safetensors:
    def __init__(self, path: Path):
        self._path = path
        try:
            with safe_open(path, "np"):  # checks the header against the file's length
                pass
        except (SafetensorError, OSError) as error:
            raise ValueError(f"weights {path}: no whole safetensors file: {error}") from None
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        self.entries: dict[str, Entry] = {}
        for name, about in header.items():
            if name == "__metadata__":
                continue
            if about["dtype"] not in DTYPES:
                raise ValueError(
                    f"weights {path}: tensor {name!r} is {about['dtype']}; readable are"
                    f" {', '.join(DTYPES)}"
                )
            start = 8 + length + about["data_offsets"][0]
            self.entries[name] = Entry(tuple(about["shape"]), DTYPES[about["dtype"]], start)

    def read(self, name: str) -> np.ndarray:
        entry = self.entries[name]
        if 0 in entry.shape:
            return np.zeros(entry.shape, entry.dtype)
        # A map of its own for every read: its pages leave this process with the array.
        return np.memmap(self._path, entry.dtype, "r", entry.offset, entry.shape)


class Weights:
    """The tensors of one or several files under one set of names; files open when first needed."""

    def __init__(self, path: Path, files: dict[str, Path]):
        """From a table: tensor name -> the file that holds it."""
        self.path = path
        self._files = files
        self._open = functools.cache(_open_file)

    @property
    def names(self) -> Iterable[str]:
        """Every tensor's name."""
        return self._files.keys()

    def _file(self, name: str) -> _Safetensors | TorchFile:
        if name not in self._files:
            raise ValueError(f"weights {self.path}: tensor {name!r} is missing")
        file = self._open(self._files[name])
        if name not in file.entries:
            raise ValueError(
                f"weights {self._files[name]}: tensor {name!r} is missing, which the index of"
                f" {self.path} says is there"
            )
        return file

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without reading it."""
        return self._file(name).entries[name].shape

    def dtype(self, name: str) -> np.dtype:
        """A tensor's dtype; bf16 is `ml_dtypes.bfloat16`."""
        return self._file(name).entries[name].dtype

    def read(self, name: str) -> np.ndarray:
        """A tensor, not to be written to; pages come from disk as they are touched.

        Raises:
          ValueError: there is none of this name; names it and the file.
        """
        return self._file(name).read(name)

    def verify(self) -> None:
        """Compare every file of the MANIFEST.json beside the weights, where there is one.

        Exports have one; model code that was copied in later is not looked at.

        Raises:
          ValueError: a damaged or missing file; names it.
        """
        for folder in {file.parent for file in self._files.values()}:
            path = folder / manifest.NAME
            if path.is_file():
                listed = read_object(path).get("files")
                manifest.verify(folder, only=listed if isinstance(listed, dict) else ())


def _open_file(path: Path) -> _Safetensors | TorchFile:
    refuse_pointer(path)
    return _Safetensors(path) if path.suffix == ".safetensors" else TorchFile(path)


def _of_index(index: Path) -> Weights:
    table = read_object(index).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(file, str) for file in table.values()):
        raise ValueError(f"weights {index}: no index with a weight_map")
    files: dict[str, str] = table
    suffix = ".safetensors" if "safetensors" in index.name else ".bin"
    for name in sorted(set(files.values())):
        if Path(name).name != name or name in ("", ".", "..") or not name.endswith(suffix):
            raise ValueError(
                f"weights {index}: points at {name!r}; an index may name {suffix} files beside"
                " it and no others"
            )
        if not (index.parent / name).is_file():
            raise ValueError(f"weights {index}: file {name} is missing")
    return Weights(index.parent, {name: index.parent / file for name, file in files.items()})


def open_weights(path: str | Path) -> Weights:
    """Open a directory, sharded or not, or a single `.safetensors` or `.bin` file.

    Raises:
      ValueError: nothing there, a damaged or refused file, an index that points elsewhere; the
        message names the file.
    """
    path = Path(path)
    if path.is_dir():
        for name in INDEXES:
            if (path / name).is_file():
                return _of_index(path / name)
        found = [path / name for name in FILES if (path / name).is_file()]
        if not found:
            raise ValueError(f"weights {path}: holds none of {', '.join(INDEXES + FILES)}")
        file = found[0]
    else:
        file = path
    if not file.is_file():
        raise ValueError(f"weights {path}: no such file or directory")
    if file.suffix not in (".safetensors", ".bin", ".pt", ".pth"):
        raise ValueError(f"weights {path}: expected a directory, a .safetensors or a .bin file")
    return Weights(path, {name: file for name in _open_file(file).entries})
