"""A dialogue with a checkpoint in ChatML: ids and pictures grow turn by turn.

An answer's ids are kept as they were generated, so that a later turn reads exactly what was said.
"""

import dataclasses
import re
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image

from launch.fonts import label_font
from launch.loading import Checkpoint
from launch.turns import CLOSING, SYSTEM, marked_spans, opening
from qwenvl_jax.image.decode import ImageError, decode, decode_whole
from qwenvl_jax.image.draw import draw_outlines
from qwenvl_jax.inference.prompts import Decoding, Prompt, continue_prompts
from qwenvl_jax.text.markup import Marked, parse_marked
from qwenvl_jax.text.prompts import IMAGE, Span, encode_spans

_PATH = re.compile(r"<img>(.*?)</img>", re.DOTALL)
_LABEL = re.compile(r"Picture \d+: ?$")


class Answer(NamedTuple):
    text: str  # with its markup
    marked: list[Marked]  # phrases and their places; empty where the markup is broken
    fault: str = ""  # what is wrong with the markup


class Dialogue:
    """Turns so far. A message that is refused leaves them as they were."""

    def __init__(self, checkpoint: Checkpoint, decoding: Decoding, *, system: str = SYSTEM):
        """Begin with a system turn.

        Args:
          decoding: its stop tokens are ChatML's, whatever it says.
        """
        names = checkpoint.tokenizer.specials
        stop_ids = (names.im_end, names.eos, names.im_start)
        self._checkpoint = checkpoint
        self._decoding = dataclasses.replace(decoding, stop_ids=stop_ids)
        self._ids = self._encode([*opening("system"), Span(system, False), *CLOSING])
        self._files: list[bytes] = []
        self._pixels: list[np.ndarray] = []

    @property
    def pictures(self) -> int:
        """How many pictures have been shown."""
        return len(self._files)

    def ask(self, message: str) -> Answer:
        """Say something and wait for the answer.

        Args:
          message: `<img>path</img>` shows a picture, which is numbered `Picture n:` where the
            message does not do so itself.

        Raises:
          ValueError: the message is empty, or a path cannot be read as a picture; names it.
        """
        spans, files, pixels = self._message(message)
        ids = self._ids + self._encode([*opening("user"), *spans, *CLOSING, *opening("assistant")])
        pixels = self._pixels + pixels
        prompt = Prompt(np.asarray(ids, np.int32), pixels)
        c = self._checkpoint
        with jax.set_mesh(c.mesh):
            (new,) = continue_prompts(c.model, c.params, [prompt], self._decoding, rows=1)
        self._ids = ids + new + self._encode(CLOSING)
        self._files, self._pixels = self._files + files, pixels
        return read_answer(c.tokenizer.decode(new))

    def draw(self, answer: Answer) -> Image.Image | None:
        """The newest picture with the places that the answer names; None where there are none."""
        outlines = [
            (entry.phrase, points)
            for entry in answer.marked
            for points in (*entry.boxes, *entry.quads)
        ]
        if not outlines or not self._files:
            return None
        return draw_outlines(decode_whole(self._files[-1]), outlines, label_font())

    def look(self, path: str) -> tuple[bytes, np.ndarray]:
        """A picture file and what the model sees of it.

        Raises:
          ValueError: it cannot be read, or is no picture that is accepted; names it.
        """
        try:
            file = Path(path.strip()).expanduser().read_bytes()
            decode_whole(file)  # it will be drawn into
            return file, decode(file, self._checkpoint.model.vit.image_size)
        except (OSError, RuntimeError) as error:  # RuntimeError: ~nobody
            raise ValueError(f"picture {path}: {getattr(error, 'strerror', error)}") from error
        except ImageError as error:
            raise ValueError(f"picture {path}: {error}") from error

    def _message(self, message: str) -> tuple[list[Span], list[bytes], list[np.ndarray]]:
        if not message.strip():
            raise ValueError("the message is empty")
        spans: list[Span] = []
        files, pixels, end = [], [], 0
        for found in _PATH.finditer(message):
            before = message[end : found.start()]
            if not _LABEL.search(before):
                before += f"Picture {self.pictures + len(files) + 1}: "
            file, seen = self.look(found.group(1))
            files.append(file)
            pixels.append(seen)
            spans += [*marked_spans(before), IMAGE]
            end = found.end()
            if not message[end:].startswith("\n"):
                spans.append(Span("\n", False))
        return [*spans, *marked_spans(message[end:])], files, pixels

    def _encode(self, spans: list[Span]) -> list[int]:
        queries = self._checkpoint.model.adapter.num_queries
        return encode_spans(spans, self._checkpoint.tokenizer, num_queries=queries)[0].tolist()


def read_answer(text: str) -> Answer:
    """Split generated text into phrases and places; broken markup becomes the answer's fault."""
    try:
        return Answer(text.strip(), parse_marked(text)[1])
    except ValueError as error:
        return Answer(text.strip(), [], str(error))
