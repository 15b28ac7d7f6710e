"""The text of every pretraining task, as in Appendix B of the paper, and its way into ids.

A sample is a list of spans. Text that comes from data is never read for special tokens; markup that
this module writes is. The supervised part starts with a space and ends with `<|endoftext|>`.
"""

import functools
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32

from qwenvl_jax.text.markup import format_points
from qwenvl_jax.text.specials import SPELLINGS, Specials


class Span(NamedTuple):
    """A run of text that is treated alike."""

    text: str
    supervised: bool  # its tokens are prediction targets
    special: bool = False  # spelled special tokens count: for text written here, never for data


# Stands for <img> + Q x <imgpad> + </img>.
IMAGE = Span("<img></img>", supervised=False, special=True)
END = Span(SPELLINGS.eos, supervised=True, special=True)

# The Chinese wordings are this project's: the paper gives the English ones only.
CAPTION = {"en": "Generate the caption in English:", "zh": "用中文描述这张图片："}
GROUNDING = {
    "en": "Generate the caption in English with grounding:",
    "zh": "用中文描述这张图片，并标出位置：",
}
ANSWER = {"en": "Answer:", "zh": "回答："}
OCR = "OCR with grounding:"


def task_spans(
    task: str,
    *,
    language: str,
    num_images: int = 1,
    text: str = "",
    question: str = "",
    regions: Sequence[Any] = (),
    more: Sequence[Any] = (),
) -> list[Span]:
    """Spans of one sample of a pretraining task.

        <img>..</img> Where is the dog relative to the car? Answer: left<|endoftext|> How many ..

    Args:
      language: en or zh.
      num_images: images before the text; several are numbered `Picture 1: ..`.
      text: the caption, answer or plain text.
      question: of plain text, what stands before it and is read but not learnt.
      regions: objects with `phrase`, `boxes`, `quads` (fractions of the picture) and, for
        grounding and text, `span`: the phrase's characters in `text`.
      more: what else is asked about the same images, with `task`, `text`, `question`, `regions`;
        each answer ends as the first does.

    Raises:
      ValueError: unknown task, or fields that the task needs and did not get.
    """
    for name in (task, *(ask.task for ask in more)):
        if name not in _BODIES:
            raise ValueError(f"task {name!r}: has no prompt; known are {sorted(_BODIES)}")
    if language not in CAPTION:
        raise ValueError(f"language {language!r}: expected one of {sorted(CAPTION)}")
    if task != "text" and not num_images:
        raise ValueError(f"task {task!r}: needs an image")
    spans = [*pictures(num_images), *_BODIES[task](language, text, question, regions), END]
    for ask in more:
        spans += [*_BODIES[ask.task](language, ask.text, ask.question, ask.regions), END]
    return spans


def caption(text: str, *, language: str) -> list[Span]:
    """`task_spans` of captioning one image; its unsupervised spans are the prompt to generate."""
    return task_spans("caption", language=language, text=text)


def encode_spans(
    spans: Sequence[Span], tokenizer: Any, *, num_queries: int
) -> tuple[Int32[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Ids of a sample, and which of them are prediction targets.

    Args:
      num_queries: Q, the number of `<imgpad>` of an image.

    Returns:
      tokens int32 [n] and supervised bool [n]; supervised[i] says that token i is to be predicted.
    """
    ids, supervised = array("i"), bytearray()
    for span in spans:
        if span == IMAGE:
            new = _image_ids(tokenizer.specials, num_queries)
        else:
            new = tokenizer.encode(span.text, special=span.special)
        ids.extend(new)
        supervised += bytes([span.supervised]) * len(new)
    return np.frombuffer(ids, np.int32), np.frombuffer(supervised, bool)


@functools.lru_cache(16)
def _image_ids(names: Specials, num_queries: int) -> array:
    return array("i", [names.img, *[names.imgpad] * num_queries, names.img_end])


def pictures(count: int) -> list[Span]:
    """One picture as it is; several numbered, a line each."""
    if count == 1:
        return [IMAGE]
    spans: list[Span] = []
    for i in range(count):
        spans += [Span(f"Picture {i + 1}: ", False), IMAGE, Span("\n", False)]
    return spans


def _caption(language, text, question, regions):
    return [Span(CAPTION[language], False), Span(f" {text}", True)]


def _vqa(language, text, question, regions):
    return [Span(f" {question} {ANSWER[language]}", False), Span(f" {text}", True)]


def _text(language, text, question, regions):
    if not question:
        return _marked(text, regions)
    return [Span(question, False), *(_marked(text, regions) if text else [])]


def _grounding(language, text, question, regions):
    # Joined, so that " " and "Photo of " are tokenised as one run.
    return _join([Span(GROUNDING[language], False), Span(" ", True), *_marked(text, regions)])


def _referring(language, text, question, regions):
    region = _only(regions, "referring")
    return [*_ref(region.phrase, False), *_places(region, True)]


def _grounded_caption(language, text, question, regions):
    region = _only(regions, "grounded_caption")
    verb = {"en": " is", "zh": "是"}[language]
    this = {"en": "This", "zh": "这"}[language]
    return [*_ref(this, False), *_places(region, False), Span(verb, False), Span(f" {text}", True)]


def _ocr(language, text, question, regions):
    spans = [Span(OCR, False)]
    for region in regions:
        spans += [Span(" ", True), *_ref(region.phrase, True), Span(" ", True)]
        spans += _places(region, True)
    return spans


def _marked(text, regions):
    """The text, supervised, with every region's phrase marked and followed by its places."""
    spans, end = [], 0
    for region in sorted(regions, key=lambda region: region.span or (-1, -1)):
        start, stop = region.span or (-1, -1)
        if not end <= start < stop <= len(text):
            raise ValueError(f"region {region.phrase!r} has no span of its own in {text!r}")
        spans += [Span(text[end:start], True), *_ref(text[start:stop], True)]
        spans += _places(region, True)
        end = stop
    return [*spans, Span(text[end:], True)] if text[end:] or not spans else spans


def _only(regions, task):
    if len(regions) != 1 or not (regions[0].boxes or regions[0].quads):
        raise ValueError(
            f"task {task!r}: needs exactly one region with a place, got {len(regions)}"
        )
    return regions[0]


def _ref(phrase: str, supervised: bool) -> list[Span]:
    return [
        Span(SPELLINGS.ref, supervised, True),
        Span(phrase, supervised),
        Span(SPELLINGS.ref_end, supervised, True),
    ]


def _places(region: Any, supervised: bool) -> list[Span]:
    boxes = "".join(f"<box>{format_points(box)}</box>" for box in region.boxes)
    quads = "".join(f"<quad>{format_points(quad)}</quad>" for quad in region.quads)
    return [Span(boxes + quads, supervised, True)]


def _join(spans: list[Span]) -> list[Span]:
    """Neighbours of one kind become one span: BPE must see ` Photo of` whole."""
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1][1:] == span[1:]:
            joined[-1] = span._replace(text=joined[-1].text + span.text)
        else:
            joined.append(span)
    return joined


_BODIES = {
    "caption": _caption,
    "vqa": _vqa,
    "grounding": _grounding,
    "referring": _referring,
    "grounded_caption": _grounded_caption,
    "ocr": _ocr,
    "text": _text,
}
