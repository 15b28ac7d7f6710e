"""CLIP as a function from pictures and texts to scores, batched on all devices of this host.

    scorer = ClipScorer("ViT-B-32", batch_size=512, dtype="bfloat16")
    scores = scorer([jpeg, png], ["a dog", "a cat"])

Threads decode the next batches while the devices work on one.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Float32, UInt8
from PIL import Image

from qwenvl_jax.checkpoint.clip import load_clip
from qwenvl_jax.image.decode import ImageError, decode_whole
from qwenvl_jax.model.clip import Clip
from qwenvl_jax.parallel.mesh import MeshConfig, make_mesh
from qwenvl_jax.text.clip_bpe import load_clip_tokenizer


class ClipScorer:
    """Cosines of pictures and texts by the weights of a directory (see `checkpoint/clip.py`)."""

    def __init__(self, folder: str | Path, *, batch_size: int = 256, dtype: str = "bfloat16"):
        """Load weights and tokenizer; `batch_size` pairs go to the devices together.

        Raises:
          ValueError: a file is missing or does not fit, or the batch does not divide by the number
            of devices.
        """
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"--dtype={dtype} must be float32 or bfloat16")
        if batch_size < 1 or batch_size % jax.local_device_count():
            raise ValueError(
                f"--batch_size={batch_size} must be a multiple of the number of devices,"
                f" {jax.local_device_count()}"
            )
        self.config, params = load_clip(folder, dtype=dtype)
        self._tokenizer = load_clip_tokenizer(folder, vocab_size=self.config.text.vocab_size)
        self._batch_size = batch_size
        self._mesh = make_mesh(MeshConfig(), jax.local_devices())
        self._params = jax.device_put(params, NamedSharding(self._mesh, PartitionSpec()))
        self._rows = NamedSharding(self._mesh, PartitionSpec("data"))
        model = Clip(self.config)
        # The default precision of float32 products is lower on accelerators.
        precision = "highest" if dtype == "float32" else None

        def score(params, images_BRRC, ids_BT):
            with jax.default_matmul_precision(precision):
                return model.apply({"params": params}, images_BRRC, ids_BT)

        self._score = jax.jit(score)
        self._threads = ThreadPoolExecutor(os.cpu_count())

    def __call__(self, images: Sequence[bytes], texts: Sequence[str]) -> Float32[np.ndarray, "N"]:
        """The score of every pair, of encoded picture and text; NaN where a picture does not
        decode.
        """
        assert len(images) == len(texts), (len(images), len(texts))
        side, size = self.config.vit.image_size, self._batch_size
        decoded = self._threads.map(lambda data: _pixels_or_none(data, side), images)
        whole, waiting = np.zeros(len(images), bool), []
        with jax.set_mesh(self._mesh):
            for start in range(0, len(images), size):
                batch = texts[start : start + size]
                pixels_BRRC = np.zeros((size, side, side, 3), np.uint8)
                for row in range(len(batch)):
                    pixels = next(decoded)
                    if pixels is not None:
                        pixels_BRRC[row], whole[start + row] = pixels, True
                ids_BT = self._tokenizer(
                    [*batch, *[""] * (size - len(batch))], length=self.config.text.context_length
                )
                arrays = jax.device_put((pixels_BRRC, ids_BT), self._rows)
                waiting.append(self._score(self._params, *arrays))  # not waited for
        scores = np.concatenate([np.zeros(0, np.float32), *map(np.asarray, waiting)])
        return np.where(whole, scores[: len(images)], np.float32("nan"))


def preprocess(image: Image.Image, side: int) -> UInt8[np.ndarray, "R R 3"]:
    """CLIP's own way to a square: shorter side to `side` by bicubic, then the middle."""
    width, height = image.size
    short = min(width, height)
    width, height = int(side * width / short), int(side * height / short)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def _pixels_or_none(data: bytes, side: int) -> UInt8[np.ndarray, "R R 3"] | None:
    try:
        return preprocess(decode_whole(data), side)
    except ImageError:
        return None
