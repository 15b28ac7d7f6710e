"""The dialogue of `launch/chat.py` as a page in the browser: `launch/chat.py --web`.

Here is what the page says and does; `web_page.py` lays it out with gradio, which only this page
needs. A visitor's dialogue is his own, answers are made one at a time.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from launch.dialogue import Answer, Dialogue
from qwenvl_jax.inference.prompts import Decoding
from qwenvl_jax.text.markup import parse_marked

Message = dict[str, Any]  # what gradio's Chatbot shows: {"role": .., "content": ..}


class Typed(NamedTuple):
    """What a visitor is about to send."""

    text: str = ""
    files: Sequence[str] = ()  # uploaded pictures, by path


class View(NamedTuple):
    """What the page shows next."""

    dialogue: Dialogue
    messages: list[Message]
    typed: Typed  # left in the box
    warning: str = ""


class Page:
    """The conversations of one server.

    Args:
      start: makes an empty dialogue.
      out: where pictures with drawn places go, as `web_1.png` ..; made when needed.
    """

    def __init__(self, start: Callable[[], Dialogue], out: Path):
        self._start, self._out, self._numbers = start, out, itertools.count(1)

    def new(self) -> View:
        """Forget everything and start again."""
        return View(self._start(), [], Typed())

    def send(
        self,
        dialogue: Dialogue | None,
        messages: list[Message],
        typed: Typed,
        decoding: Decoding,
    ) -> Iterator[View]:
        """First the visitor's message, then the answer as well; what is refused goes back into the
        box.

        Args:
          dialogue: None at a visitor's first message.
        """
        dialogue = dialogue or self._start()
        shown = [{"role": "user", "content": {"path": path}} for path in typed.files]
        if typed.text.strip():
            shown.append({"role": "user", "content": typed.text})
        yield View(dialogue, [*messages, *shown], Typed())
        try:
            answer = dialogue.ask(_message(typed), decoding=decoding)
        except ValueError as error:
            yield View(dialogue, messages, typed, f"Not sent: {error}")
            return
        yield View(dialogue, [*messages, *shown, *self._answered(dialogue, answer)], Typed())

    def _answered(self, dialogue: Dialogue, answer: Answer) -> list[Message]:
        said = [{"role": "assistant", "content": spoken(answer)}]
        picture = dialogue.draw(answer)
        if picture is not None:
            self._out.mkdir(parents=True, exist_ok=True)
            path = self._out / f"web_{next(self._numbers)}.png"
            picture.save(path)
            said.append({"role": "assistant", "content": {"path": str(path)}})
        return said


def _message(typed: Typed) -> str:
    """As a line in the terminal. Only uploads are read: a typed path would show a visitor's browser
    files of the server.
    """
    if "<img>" in typed.text:
        raise ValueError("pictures are added with the button, not by <img> in the text")
    pictures = "".join(f"<img>{path}</img>\n" for path in typed.files)
    if pictures and not typed.text.strip():
        raise ValueError("a picture needs a question")
    return pictures + typed.text.strip()


def spoken(answer: Answer) -> str:
    """The words without markup and, below, each phrase with its places in thousandths of the
    picture; an answer whose markup is broken stays as it is, with what is wrong.
    """
    if answer.fault:
        return f"{answer.text}\n\n(no places drawn: {answer.fault})"
    plain = " ".join(parse_marked(answer.text)[0].split())
    places = [
        f"{entry.phrase or 'here'}: " + " ".join(map(_points, (*entry.boxes, *entry.quads)))
        for entry in answer.marked
        if entry.boxes or entry.quads
    ]
    return "\n".join([plain or "(no words)", *places])


def _points(fractions: Sequence[float]) -> str:
    cells = [round(1000 * value) for value in fractions]
    return " ".join(f"({x},{y})" for x, y in zip(cells[::2], cells[1::2]))


def settings(
    base: Decoding, *, longest: float, temperature: float, top_p: float, seed: float, beams: float
) -> Decoding:
    """The page's controls, which hand over floats, as a Decoding.

    Raises:
      ValueError: beams together with a temperature.
    """
    return dataclasses.replace(
        base,
        max_new_tokens=int(longest),
        temperature=float(temperature),
        top_p=float(top_p),
        seed=int(seed),
        beams=int(beams),
    )
