"""Questions about photographs: VQAv2, GQA and those of Visual Genome."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from data_pipelines.build.convert.entry import (
    Annotations,
    Entry,
    EntryError,
    each,
    field,
    load_parts,
    text_field,
)
from data_pipelines.build.sources import Bad

_CONFIDENCE = ("no", "maybe", "yes")


def vqav2(source: Annotations) -> Iterator[Entry | Bad]:
    """`v2_OpenEnded_mscoco_*_questions.json` and `v2_mscoco_*_annotations.json`, one of each.

    https://visualqa.org/vqa_v1_download.html describes both. Pictures are COCO's, under their names
    of 2014 or of 2017.
    """
    questions, annotations, split = load_parts(
        source.paths, ("questions", list), ("annotations", list), ("data_subtype", str)
    )
    answered = {}
    for item in annotations:
        try:
            answered[field(item, "question_id", int)] = item.get("answers")
        except EntryError:
            continue  # its question is then counted as without an answer

    def read(item):
        number, image = field(item, "question_id", int), field(item, "image_id", int)
        answer, given = confident_answer(answered.get(number))
        names = (f"COCO_{split}_{image:012d}.jpg", f"{image:012d}.jpg")
        question = text_field(item, "question")
        yield Entry(f"vqav2/{number}", names, "vqa", answer, question, meta={"answers": given})

    yield from each(questions, read)


def confident_answer(answers: Any) -> tuple[str, list[str]]:
    """The answer of highest confidence (paper, appendix A.2), and all that were given.

    Ten people answer, each with `answer_confidence` yes, maybe or no. Of the answers given with the
    highest confidence that occurs, the most frequent wins, then the most frequent of all, then the
    first.

    Raises:
      EntryError: there is no answer, or one is not in this form.
    """
    if not answers:
        raise EntryError("no_answer")
    if not isinstance(answers, Sequence):
        raise EntryError("bad_answers")
    given: list[str] = []
    sure: dict[str, Counter] = {level: Counter() for level in _CONFIDENCE}
    for item in answers:
        text, level = text_field(item, "answer"), field(item, "answer_confidence", str)
        if level not in sure:
            raise EntryError("bad_answer_confidence")
        given.append(text)
        sure[level][text] += 1
    best = max(level for level in range(3) if sure[_CONFIDENCE[level]])
    counts, total = sure[_CONFIDENCE[best]], Counter(given)
    # max takes the first of equals, and `counts` is in the order of the answers.
    return max(counts, key=lambda text: (counts[text], total[text])), given


def gqa(source: Annotations) -> Iterator[Entry | Bad]:
    """`train_balanced_questions.json` (https://cs.stanford.edu/people/dorarad/gqa/download.html).

    An object of questions by id; the short `answer` is taken, not `fullAnswer`.
    """
    (questions,) = load_parts(source.paths, ("", dict))

    def read(pair):
        number, item = pair
        if isinstance(item, dict) and item.get("answer") is None:
            raise EntryError("no_answer")
        image = text_field(item, "imageId")
        question, answer = text_field(item, "question"), text_field(item, "answer")
        yield Entry(f"gqa/{number}", (f"{image}.jpg",), "vqa", answer, question)

    yield from each(questions.items(), read)


def vgqa(source: Annotations) -> Iterator[Entry | Bad]:
    """Visual Genome's `question_answers.json`: a list of pictures with their `qas`."""
    (images,) = load_parts(source.paths, ("", list))

    def read(item):
        number = field(item, "qa_id", int)
        image = genome_images(field(item, "image_id", int))
        question, answer = text_field(item, "question"), text_field(item, "answer")
        # Most answers are written as sentences ("On the table."); a short answer has no full stop.
        yield Entry(f"vgqa/{number}", image, "vqa", answer.removesuffix("."), question)

    yield from each(flatten(images, "qas"), read)


def genome_images(number: int) -> tuple[str, ...]:
    """Where Visual Genome's two archives put a picture."""
    return tuple(f"{folder}{number}.jpg" for folder in ("", "VG_100K/", "VG_100K_2/"))


def flatten(images: Sequence[Any], name: str) -> Iterator[Any]:
    """Item by item what every picture lists under `name`; None for a picture that lists nothing."""
    for image in images:
        items = image.get(name) if isinstance(image, dict) else None
        yield from items if isinstance(items, list) else [None]
