"""What each task asks of a model, and how its answers are scored.

The pure metrics are in `qwenvl_jax/eval`; here records and generated text become what they compare.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from data_pipelines.schema import Record
from qwenvl_jax.eval import anls, bleu, cider, exact, grounding, kinds, relaxed, vqa, words
from qwenvl_jax.text import chatml, prompts
from qwenvl_jax.text.markup import Marked, first_box, parse_marked
from qwenvl_jax.text.prompts import Span
from qwenvl_jax.text.specials import SPELLINGS


class Answer(NamedTuple):
    text: str  # with its markup, without the stop token
    ended: bool = True  # False: cut off after the most tokens allowed


class Metric(NamedTuple):
    name: str
    normaliser: str
    score: Callable[[Sequence[Record], Sequence[Answer]], float]
    fits: Callable[[Record], bool] = lambda record: True  # used where it fits every record


class Task(NamedTuple):
    new_tokens: int
    metrics: tuple[Metric, ...]


def question(record: Record) -> list[Span]:
    """What stands before the answer, in the words of training.

    A referring question ends with `<box>`, as in the paper's evaluation.

    Raises:
      ValueError: the record's fields do not fit its task, or the task asks nothing (pure text).
    """
    if record.task == "chat":
        return chatml.prompt_spans(record.turns[:-1], num_images=len(record.images))
    asked = [span for span in _spans(record) if not span.supervised]
    if not asked:
        raise ValueError(f"record {record.key!r}: task {record.task!r} asks nothing")
    return [*asked, _BOX] if record.task == "referring" else asked


def exemplar(record: Record) -> list[Span]:
    """A solved record, to stand before a question of its task: question, answer and a newline.

    Raises:
      ValueError: as `question`, or the task is a dialogue.
    """
    if record.task == "chat":
        raise ValueError("dialogues have no exemplars")
    question(record)
    solved = [span._replace(supervised=False) for span in _spans(record)[:-1]]
    return [*solved, Span("\n", supervised=False)]


def answer(record: Record, text: str, *, ended: bool) -> Answer:
    """Generated text as it is scored: with the `<box>` that its question began."""
    return Answer(SPELLINGS.box + text if record.task == "referring" else text.strip(), ended)


def reference(record: Record) -> str:
    """The true answer, as it is written in a report."""
    if record.task == "chat":
        return record.turns[-1].text
    return "".join(span.text for span in _spans(record)[:-1] if span.supervised).strip()


def places(text: str) -> list[tuple[str, tuple[float, ...]]]:
    """(phrase, points) of all that a text points at; none where its markup is broken."""
    return [(entry.phrase, p) for entry in _marked(text) for p in (*entry.boxes, *entry.quads)]


def _spans(record: Record) -> list[Span]:
    return prompts.task_spans(
        record.task,
        language=record.language,
        num_images=len(record.images),
        text=record.text,
        question=record.question,
        regions=record.regions,
    )


_BOX = Span(SPELLINGS.box, False, special=True)


def _marked(text: str) -> list[Marked]:
    try:
        return parse_marked(text)[1]
    except ValueError:  # a model may leave a tag open; that is an answer without places
        return []


def _plain(text: str) -> str:
    try:
        return parse_marked(text)[0]
    except ValueError:
        return text


def _mean(score: Callable[[Record, str], float]):
    def mean(records: Sequence[Record], answers: Sequence[Answer]) -> float:
        values = [score(r, a.text) for r, a in zip(records, answers, strict=True)]
        return sum(values) / len(values)

    return mean


def _answers(record: Record) -> Sequence[str]:
    """Every true answer: people's, where there are several."""
    if record.task == "chat":
        return [record.turns[-1].text]
    return record.meta.get("answers") or [record.text]


def _best(score: Callable[..., float]):
    return _mean(lambda record, said: max(score(said, target=t) for t in _answers(record)))


def _cider(records, answers) -> float:
    said = [words.words(_plain(answer.text)) for answer in answers]
    truth = [[words.words(text) for text in _answers(record)] for record in records]
    scores = cider.cider(said, references=truth)
    return sum(scores) / len(scores)


def _bleu(records, answers) -> float:
    said = [words.words(_plain(answer.text)) for answer in answers]
    return bleu.bleu(said, references=[[words.words(t) for t in _answers(r)] for r in records])


def _kinds(records, answers) -> float:
    truth = [record.meta["kinds"] for record in records]
    known = sorted({name for names in truth for name in names})
    said = [answer.text for answer in answers]
    return kinds.score(said, truth, known, records[0].language).named


def _bounds(points: Sequence[float]) -> tuple[float, ...]:
    """A box as it is; a quadrilateral's bounding box."""
    return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])


def _true_places(record: Record) -> list[tuple[str, tuple[float, ...]]]:
    if record.task == "chat":
        return places(record.turns[-1].text)
    return [(r.phrase, p) for r in record.regions for p in (*r.boxes, *r.quads)]


def _places_found(records, answers) -> float:
    """Share of true places that an answer gives at IoU >= 0.5 under the same phrase."""
    found = total = 0
    for record, answer in zip(records, answers, strict=True):
        said = [(exact.normalise(phrase), _bounds(p)) for phrase, p in places(answer.text)]
        for phrase, points in _true_places(record):
            near = [b for name, b in said if name == exact.normalise(phrase)]
            found += any(grounding.grounding_accuracy(b, box=_bounds(points)) for b in near)
            total += 1
    return found / max(total, 1)


def _referring(record: Record, said: str) -> float:
    box = first_box(said)
    return max(grounding.grounding_accuracy(box, box=b) for b in record.regions[0].boxes)


def _units(phrases: Sequence[str], language: str) -> list[str]:
    """English words, Chinese characters."""
    text = " ".join(phrases)
    return text.split() if language == "en" else list("".join(text.split()))


def _transcript(records, answers) -> float:
    """Over all units of all pictures, so that a long page counts for more than a short one."""
    found = total = 0.0
    for record, answer in zip(records, answers, strict=True):
        target = _units([region.phrase for region in record.regions], record.language)
        said = _units([entry.phrase for entry in _marked(answer.text)], record.language)
        found += exact.share_found(said, target=target) * len(target)
        total += len(target)
    return found / max(total, 1)


def _format(records, answers) -> float:
    """An answer keeps the format when it ends by itself, says something, and has only whole
    markup.
    """
    foreign = set(SPELLINGS) - {t for t in SPELLINGS if t.strip("</>") in ("ref", "box", "quad")}

    def keeps(answer: Answer) -> bool:
        try:
            parse_marked(answer.text)
        except ValueError:
            return False
        return answer.ended and bool(answer.text) and not any(t in answer.text for t in foreign)

    return sum(keeps(answer) for answer in answers) / len(answers)


_PHRASE = f"phrase: {exact.NORMALISER}; IoU >= 0.5, thousandths of the picture"
EXACT = Metric("exact_match", exact.NORMALISER, _best(exact.exact_match))
CIDER = Metric("cider", words.NORMALISER, _cider)
PLACES = Metric("places_found", _PHRASE, _places_found, lambda record: bool(_true_places(record)))

TASKS: dict[str, Task] = {
    "caption": Task(
        30,
        (
            CIDER,
            Metric("bleu_4", words.NORMALISER, _bleu),
            Metric("kinds_named", "names as they stand", _kinds, lambda r: "kinds" in r.meta),
        ),
    ),
    "vqa": Task(
        30,
        (
            EXACT,
            Metric(
                "vqa_accuracy",
                vqa.NORMALISER,
                _mean(lambda r, said: vqa.vqa_accuracy(said, answers=_answers(r))),
                lambda record: len(_answers(record)) > 3,  # three people must agree
            ),
            Metric(
                "anls",
                anls.NORMALISER,
                _mean(lambda r, said: anls.anls(said, answers=_answers(r))),
            ),
            Metric("relaxed_accuracy", relaxed.NORMALISER, _best(relaxed.relaxed_accuracy)),
        ),
    ),
    "grounding": Task(160, (PLACES, CIDER)),
    "referring": Task(28, (Metric("iou_0.5", grounding.NORMALISER, _mean(_referring)),)),
    "grounded_caption": Task(30, (EXACT, CIDER)),
    "ocr": Task(
        320,
        (
            Metric("text_found", "words (en) or characters (zh) as they stand", _transcript),
            PLACES,
        ),
    ),
    "chat": Task(
        160,
        (Metric("format_kept", "none", _format), EXACT, PLACES),
    ),
}
