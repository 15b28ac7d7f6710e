"""Text and images -> what the model takes; ids -> text, places and drawings."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature
from transformers.utils import cached_file

from .chat_qwenvl import IMAGE, PLACE, Piece, dialogue_pieces, prompt_pieces
from .images_qwenvl import draw, pixels, rgb
from .markup_qwenvl import Marked, parse
from .tokenization_qwenvl import QwenVLTokenizer

CONFIG = "processor_config.json"
_HUB = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


class QwenVLProcessor:
    """Vocabulary, image size and query count of one model."""

    def __init__(self, tokenizer: QwenVLTokenizer, *, image_size: int, num_queries: int):
        self.tokenizer, self.image_size, self.num_queries = tokenizer, image_size, num_queries

    @classmethod
    def from_pretrained(cls, path: str | Path, **kwargs: Any) -> "QwenVLProcessor":
        """From an export's directory, or a repository that holds one."""
        hub = {key: value for key, value in kwargs.items() if key in _HUB}
        values = json.loads(Path(cached_file(path, CONFIG, **hub)).read_text("utf-8"))
        tokenizer = QwenVLTokenizer(cached_file(path, values["vocabulary"], **hub))
        sizes = {key: values[key] for key in ("image_size", "num_queries")}
        return cls(tokenizer, **sizes)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoProcessor") -> None:
        """AutoProcessor asks for this; `processor_config.json` names the class already."""

    def __call__(
        self,
        text: str | Sequence[str],
        images: Any = None,
        *,
        padding: bool = True,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Prompts as tensors: `input_ids`, `attention_mask` and, with images, `pixel_values`.

        Special tokens that a text spells are text, but for tags of phrases and places.

        Args:
          text: a prompt or several; each `<img></img>` shows the next image.
          images: of one prompt: an image or a list. Of several prompts: a list for each, or one
            flat list in order. An image is a PIL image, a path, bytes or a uint8 array.

        Raises:
          ValueError: images and their places do not match, or an image is refused; names it.
        """
        texts = [text] if isinstance(text, str) else list(text)
        pieces = [prompt_pieces(one) for one in texts]
        counts = [row.count(IMAGE) for row in pieces]
        return self._batch(pieces, _by_prompt(images, counts), padding, return_tensors)

    def apply_chat_template(
        self,
        conversation: Sequence[Mapping[str, Any]] | Sequence[Sequence[Mapping[str, Any]]],
        *,
        add_generation_prompt: bool = True,
        tokenize: bool = True,
        return_dict: bool = True,
        padding: bool = True,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """One dialogue or several as ChatML, in tensors as `__call__` gives them.

        Args:
          conversation: messages, see `chat_qwenvl.dialogue_pieces`.
          add_generation_prompt: end with the head of the assistant's turn.

        Raises:
          ValueError: roles out of turn, a refused image, or a result that is not tensors.
        """
        if not (tokenize and return_dict):
            raise ValueError(
                "apply_chat_template: only tokenize=True, return_dict=True: in a string, special"
                " tokens and text that spells them would be the same"
            )
        several = conversation and not isinstance(conversation[0], Mapping)
        rows = conversation if several else [conversation]
        made = [dialogue_pieces(row, ask=add_generation_prompt) for row in rows]
        pieces, images = [p for p, _ in made], [i for _, i in made]
        return self._batch(pieces, images, padding, return_tensors)

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """Ids of pieces; neighbouring texts are encoded as they are given, each alone."""
        ids, tokenizer = [], self.tokenizer
        for piece in pieces:
            if isinstance(piece, str):
                ids += tokenizer.encode(piece)
            elif piece == IMAGE:
                ids += [tokenizer.ids.img, *[tokenizer.ids.imgpad] * self.num_queries]
                ids.append(tokenizer.ids.img_end)
            else:
                ids.append(getattr(tokenizer.ids, piece.name))
        return ids

    def _batch(self, pieces, images, padding: bool, return_tensors: str) -> BatchFeature:
        if return_tensors != "pt":
            raise ValueError(f"return_tensors={return_tensors!r}: only 'pt' (PyTorch tensors)")
        rows = [self.encode(row) for row in pieces]
        length = max(map(len, rows), default=0)
        if not min(map(len, rows), default=0):
            raise ValueError("a prompt is empty")
        if not padding and len(set(map(len, rows))) > 1:
            raise ValueError("prompts of several lengths need padding=True")
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, new in enumerate(rows):  # on the left: generation goes on at the right
            ids[row, length - len(new) :] = torch.tensor(new)
            mask[row, length - len(new) :] = 1
        data = {"input_ids": ids, "attention_mask": mask}
        slots, side = max(map(len, images)), self.image_size
        if slots:
            pixel_values = np.zeros((len(rows), slots, side, side, 3), np.uint8)
            for row, shown in enumerate(images):
                for slot, image in enumerate(shown):
                    name = f"prompt {row}, image {slot}"
                    pixel_values[row, slot] = pixels(image, side, name=name)
            data["pixel_values"] = torch.from_numpy(pixel_values)
        return BatchFeature(data)

    def decode(self, ids: Any, skip_special_tokens: bool = False) -> str:
        """See `QwenVLTokenizer.decode`."""
        return self.tokenizer.decode(ids, skip_special_tokens)

    def batch_decode(self, rows: Any, skip_special_tokens: bool = False) -> list[str]:
        """See `QwenVLTokenizer.decode`, of every row."""
        return self.tokenizer.batch_decode(rows, skip_special_tokens)

    def parse_boxes(self, text: str) -> tuple[str, list[Marked]]:
        """(an answer without markup, its phrases with their places); see `markup_qwenvl.parse`."""
        return parse(text)

    def draw_boxes(self, image: Any, text: str, *, font: str | None = None) -> Image.Image:
        """The image in RGB with the places that an answer names.

        Args:
          font: a font file for labels; None: Pillow's own, which lacks Chinese.

        Raises:
          ValueError: the image is refused, or the markup is broken.
        """
        _, marked = self.parse_boxes(text)
        outlines = [
            (entry.phrase, points)
            for entry in marked
            for points in (*entry.boxes, *entry.quads)
        ]  # fmt: skip
        return draw(rgb(image), outlines, font=font)


def _by_prompt(images: Any, counts: list[int]) -> list[list[Any]]:
    """The images of every prompt, as many as it has places."""
    if images is None:
        images = []
    if not isinstance(images, (list, tuple)):
        images = [images]
    if any(isinstance(entry, (list, tuple)) for entry in images):
        given = [list(entry) for entry in images if isinstance(entry, (list, tuple))]
        if len(given) != len(images) or len(given) != len(counts):
            raise ValueError(f"{len(images)} lists of images for {len(counts)} prompts")
    elif len(counts) == 1:
        given = [list(images)]
    elif len(images) == sum(counts):
        ends = np.cumsum(counts).tolist()
        given = [list(images[end - n : end]) for end, n in zip(ends, counts, strict=True)]
    else:
        raise ValueError(f"{len(images)} images for {sum(counts)} places {PLACE} in the prompts")
    for row, (shown, count) in enumerate(zip(given, counts, strict=True)):
        if len(shown) != count:
            raise ValueError(
                f"prompt {row}: {len(shown)} images for {count} places {PLACE} in its text"
            )
    return given
