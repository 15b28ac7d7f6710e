"""PyTorch's own files (`.bin`, `.pt`): the one place that needs torch, and only when called.

A pickle runs code when it is read, so nothing is read but what `weights_only=True` lets through.
"""

from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np


class Entry(NamedTuple):
    """What is known of a tensor before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int = 0  # bytes from the file's start, where the format has such


class TorchFile:
    """A `.bin` file; torch maps it, so a tensor is read from disk when it is used."""

    def __init__(self, path: Path):
        try:
            import torch
        except ImportError:
            raise ValueError(
                f"weights {path}: a .bin file is read by torch, which is not installed"
                " (pip install qwenvl-jax[torch])"
            ) from None
        self._torch = torch
        try:
            tensors = _load_torch(torch, path)
        except Exception as error:  # a malformed pickle may fail in any way
            raise ValueError(
                f"weights {path}: torch.load(weights_only=True) refuses it:"
                f" {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            ) from None
        tensors = tensors.get("state_dict", tensors) if isinstance(tensors, dict) else tensors
        if not isinstance(tensors, dict) or not all(map(torch.is_tensor, tensors.values())):
            raise ValueError(f"weights {path}: holds no plain table of tensors")
        self._tensors = {name.removeprefix("module."): x for name, x in tensors.items()}
        self.entries = {
            name: Entry(tuple(x.shape), self._dtype(path, name, x))
            for name, x in self._tensors.items()
        }

    def _dtype(self, path: Path, name: str, tensor: Any) -> np.dtype:
        if tensor.dtype == self._torch.bfloat16:
            return np.dtype(ml_dtypes.bfloat16)
        try:
            return np.dtype(str(tensor.dtype).removeprefix("torch."))
        except TypeError:  # packed bits, quantised ones
            raise ValueError(
                f"weights {path}: tensor {name!r} is {tensor.dtype}, which cannot be read here"
            ) from None

    def read(self, name: str) -> np.ndarray:
        tensor = self._tensors[name].detach()
        if tensor.dtype == self._torch.bfloat16:  # NumPy has no such type of its own
            return tensor.view(self._torch.int16).numpy().view(ml_dtypes.bfloat16)
        return tensor.numpy()


def _load_torch(torch: Any, path: Path) -> Any:
    options = {"map_location": "cpu", "weights_only": True}
    try:
        return torch.load(path, mmap=True, **options)
    except RuntimeError:  # the format before torch 1.6 cannot be mapped
        return torch.load(path, **options)
