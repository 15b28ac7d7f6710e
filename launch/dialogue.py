"""A dialogue with a checkpoint: turns and pictures so far."""

import dataclasses
import re
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image

from data_pipelines.build.ocr.fonts import cjk_font
from launch.loading import Checkpoint
from qwenvl_jax.image.decode import ImageError, decode, decode_whole
from qwenvl_jax.image.draw import draw_outlines
from qwenvl_jax.inference.prompts import Decoding, Prompt, continue_prompts
from qwenvl_jax.text.chatml import SYSTEM, picture_lines, prompt_spans
from qwenvl_jax.text.markup import Marked, parse_marked
from qwenvl_jax.text.prompts import encode_spans
from qwenvl_jax.text.specials import SPELLINGS

# A picture with the number and the newline that belong to it, where the user gave them.
_PATH = re.compile(r"(?:Picture \d+: ?)?<img>(.*?)</img>\n?", re.DOTALL)


class Answer(NamedTuple):
    text: str  # with its markup
    marked: list[Marked]  # phrases and their places; empty where the markup is broken
    fault: str = ""  # what is wrong with the markup


class Picture(NamedTuple):
    file: bytes
    pixels: np.ndarray  # what the model sees


class Dialogue:
    """What was said and shown. A message that is refused leaves it as it was."""

    def __init__(self, checkpoint: Checkpoint, decoding: Decoding, *, system: str = SYSTEM):
        """Begin with a system turn.

        Args:
          decoding: its stop tokens are ChatML's, whatever it says.
        """
        self._checkpoint, self._decoding = checkpoint, decoding
        self.turns: list[tuple[str, str]] = [("system", system)]
        self.pictures: list[Picture] = []

    def ask(self, message: str, *, decoding: Decoding | None = None) -> Answer:
        """Say something and wait for the answer.

        Args:
          message: `<img>path</img>` shows a picture; it is numbered over the whole dialogue.
          decoding: for this answer only.

        Raises:
          ValueError: the message is empty, or a path cannot be read as a picture; names it.
        """
        text, new = self._read(message)
        turns, pictures = [*self.turns, ("user", text)], [*self.pictures, *new]
        answer = read_answer(self._continue(turns, pictures, decoding or self._decoding))
        # A picture that the model claims to show is none.
        said = answer.text.replace(SPELLINGS.img, "").replace(SPELLINGS.img_end, "")
        self.turns, self.pictures = [*turns, ("assistant", said)], pictures
        return answer

    def look(self, path: str) -> Picture:
        """A picture file and what the model sees of it.

        Raises:
          ValueError: it cannot be read, or is no picture that is accepted; names it.
        """
        try:
            file = Path(path.strip()).expanduser().read_bytes()
            decode_whole(file)  # it will be drawn into
            return Picture(file, decode(file, self._checkpoint.model.vit.image_size))
        except (OSError, RuntimeError) as error:  # RuntimeError: ~nobody
            raise ValueError(f"picture {path}: {getattr(error, 'strerror', error)}") from error
        except ImageError as error:
            raise ValueError(f"picture {path}: {error}") from error

    def draw(self, answer: Answer) -> Image.Image | None:
        """The newest picture with the places that the answer names; None where there are none."""
        outlines = [
            (entry.phrase, points)
            for entry in answer.marked
            for points in (*entry.boxes, *entry.quads)
        ]
        if not outlines or not self.pictures:
            return None
        return draw_outlines(decode_whole(self.pictures[-1].file), outlines, cjk_font())

    def _read(self, message: str) -> tuple[str, list[Picture]]:
        """The message as ChatML has it, and its pictures."""
        if not message.strip():
            raise ValueError("the message is empty")
        new: list[Picture] = []

        def number(found: re.Match) -> str:
            new.append(self.look(found.group(1)))
            return picture_lines(1, first=len(self.pictures) + len(new) - 1)

        return _PATH.sub(number, message), new

    def _continue(
        self, turns: list[tuple[str, str]], pictures: list[Picture], decoding: Decoding
    ) -> str:
        c = self._checkpoint
        names = c.tokenizer.specials
        stop_ids = (names.im_end, names.eos, names.im_start)
        decoding = dataclasses.replace(decoding, stop_ids=stop_ids)
        spans = prompt_spans(turns, num_images=len(pictures))
        tokens, _ = encode_spans(spans, c.tokenizer, num_queries=c.model.adapter.num_queries)
        prompt = Prompt(tokens, [picture.pixels for picture in pictures])
        with jax.set_mesh(c.mesh):
            (new,) = continue_prompts(c.model, c.params, [prompt], decoding, rows=1)
        return c.tokenizer.decode(new)


def read_answer(text: str) -> Answer:
    """Split generated text into phrases and places; broken markup becomes the answer's fault."""
    try:
        return Answer(text.strip(), parse_marked(text)[1])
    except ValueError as error:
        return Answer(text.strip(), [], str(error))
