"""What is asked and how answers are judged, task by task, with answers written by hand."""

import pytest

from data_pipelines.schema import Record, Region, Turn
from launch.tasks import TASKS, Answer, answer, places, question, reference

CAT, DOG = (0.1, 0.2, 0.5, 0.6), (0.6, 0.6, 0.9, 0.9)
PNG = b"not decoded here"


def record(task: str, **fields) -> Record:
    fields = {"language": "en", "images": (PNG,)} | fields
    return Record(key=task, task=task, **fields)


GROUNDING = record(
    "grounding",
    text="a cat by a dog",
    regions=(Region("a cat", (CAT,), span=(0, 5)), Region("a dog", (DOG,), span=(9, 14))),
)
REFERRING = record("referring", regions=(Region("a cat", (CAT,)),))
OCR = record(
    "ocr",
    regions=(
        Region("red sky", quads=((0.1, 0.1, 0.5, 0.1, 0.5, 0.2, 0.1, 0.2),)),
        Region("sea", quads=((0.1, 0.5, 0.5, 0.6, 0.5, 0.7, 0.1, 0.6),)),
    ),
)
CHAT = record(
    "chat",
    turns=(
        Turn("user", "Picture 1: <img>0</img>\nWhat?"),
        Turn("assistant", "A dog."),
        Turn("user", "Where?"),
        Turn("assistant", "<ref>a dog</ref><box>(600,600),(900,900)</box>"),
    ),
)


def scores(of: Record | list[Record], *texts: str, ended: bool = True) -> dict[str, float]:
    records = of if isinstance(of, list) else [of] * len(texts)
    answers = [answer(r, text, ended=ended) for r, text in zip(records, texts, strict=True)]
    return {
        metric.name: metric.score(records, answers)
        for metric in TASKS[records[0].task].metrics
        if all(metric.fits(r) for r in records)
    }


def asked(of: Record) -> str:
    return "".join(span.text for span in question(of))


def test_what_stands_before_the_answer():
    """An answer in the prompt would be repeated and scored as right."""
    assert asked(record("caption", text="a cat")) == "<img></img>Generate the caption in English:"
    vqa = record("vqa", question="How many?", text="two", images=(PNG, PNG))
    pictures = "Picture 1: <img></img>\nPicture 2: <img></img>\n"
    assert asked(vqa) == pictures + " How many? Answer:"
    assert asked(GROUNDING) == "<img></img>Generate the caption in English with grounding:"
    assert asked(REFERRING) == "<img></img><ref>a cat</ref><box>"
    about = record("grounded_caption", text="a cat", regions=(Region("", (CAT,)),))
    assert asked(about) == "<img></img><ref>This</ref><box>(100,200),(500,600)</box> is"
    assert asked(OCR) == "<img></img>OCR with grounding:"
    assert asked(CHAT) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nPicture 1: <img></img>\nWhat?<|im_end|>\n"
        "<|im_start|>assistant\nA dog.<|im_end|>\n"
        "<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n"
    )
    with pytest.raises(ValueError, match="'text' asks nothing"):
        question(record("text", text="words", images=()))


@pytest.mark.parametrize("of", [GROUNDING, REFERRING, OCR, CHAT], ids=lambda of: of.task)
def test_the_true_answer_scores_full(of):
    """A true answer that a metric cannot read would hide every right answer of a model."""
    text = reference(of).removeprefix("<box>") if of.task == "referring" else reference(of)
    got = scores(of, text)
    got.pop("cider", None)  # of one picture nothing is rare
    assert got and set(got.values()) == {1.0}


def test_questions():
    people = ["two"] * 6 + ["2"] * 4
    vqa = record("vqa", question="How many?", text="two", meta={"answers": people})
    got = scores(vqa, "Two.")
    assert got["exact_match"] == 1 and got["vqa_accuracy"] == pytest.approx(1.0)
    # "2", which four of ten gave: nine are left, of whom three or four agree
    assert scores(vqa, "three") == {
        "exact_match": 0,
        "vqa_accuracy": 0,
        "anls": 0,
        "relaxed_accuracy": 0,
    }
    one = record("vqa", question="How much?", text="100")
    got = scores([one, one], "104", "106")
    assert got["relaxed_accuracy"] == 0.5 and "vqa_accuracy" not in got


def test_referring_takes_the_first_box():
    """The question ends with <box>; the model goes on inside it."""
    right, wrong = "(100,200),(500,600)</box>", "(100,200),(300,400)</box>"
    assert scores(REFERRING, right)["iou_0.5"] == 1
    assert scores(REFERRING, wrong + f"<box>{right}")["iou_0.5"] == 0
    assert scores(REFERRING, "(100,200),(500")["iou_0.5"] == 0
    assert scores([REFERRING] * 2, right, wrong)["iou_0.5"] == 0.5


def test_places_need_their_phrase():
    """A right box under another name is not found, nor is the right name somewhere else."""
    cat, dog = "<box>(100,200),(500,600)</box>", "<box>(600,600),(900,900)</box>"
    found = [
        (f"<ref>A cat</ref>{cat} by <ref> a dog</ref>{dog}", 1.0),
        (f"<ref>a cat</ref>{cat}", 0.5),
        (f"<ref>a cat</ref>{dog}{cat}", 0.5),
        (f"<ref>a dog</ref>{cat} <ref>a cat</ref>{dog}", 0.0),
        (f"<ref>a cat</ref>{cat} <ref>a dog", 0.0),
    ]
    for text, share in found:
        assert scores(GROUNDING, text)["places_found"] == share, text


def test_transcripts_count_words_or_characters():
    quad = "<quad>(100,100),(500,100),(500,200),(100,200)</quad>"
    assert scores(OCR, f"<ref>red sky</ref> {quad}") == {"text_found": 2 / 3, "places_found": 0.5}
    assert scores(OCR, f"<ref>red sea red</ref> {quad}") == {"text_found": 2 / 3, "places_found": 0}
    chinese = OCR._replace(language="zh", regions=(Region("红色 天空", quads=(CAT + DOG,)),))
    assert scores(chinese, "<ref>红天</ref>")["text_found"] == 0.5
    # Both pages together: 3 of 3 and 0 of 1
    short = OCR._replace(regions=(Region("sun", quads=OCR.regions[0].quads),))
    assert scores([OCR, short], "<ref>sky red</ref><ref>sea</ref>", "")["text_found"] == 3 / 4


def test_the_format_of_chat():
    """Cut off, empty, broken, or with a token that does not belong into an answer."""
    assert scores(CHAT, "No dog.")["format_kept"] == 1
    assert scores(CHAT, "No dog.", ended=False)["format_kept"] == 0
    for text in ("", "<ref>a", "<box>(1,2)</box>", "a <img> b", "a<|im_start|>"):
        assert scores(CHAT, text)["format_kept"] == 0, text
    assert scores(CHAT, "a dog.")["exact_match"] == 0


def test_captions_use_every_reference():
    """Benchmarks give five captions a picture."""
    one = record(
        "caption", text="a cat", meta={"answers": ["a cat sleeps here", "one big dog runs"]}
    )
    other = record("caption", text="x", meta={"answers": ["the sea at night now"]})
    full = scores([one, other], "one big dog runs", "the sea at night now")
    half = scores([one, other], "one big dog runs", "nothing of it is here")
    assert full["bleu_4"] == 1 and full["cider"] > half["cider"] > 0
    named = record("caption", text="x", meta={"kinds": ["cat", "hot dog"]})
    assert scores(named, "two cats")["kinds_named"] == 0.5


def test_places_for_drawing():
    assert places("<ref>狗</ref><box>(1,2),(3,4)</box>") == [("狗", (0.001, 0.002, 0.003, 0.004))]
    assert places("<box>(1,2)") == [] and answer(CHAT, " a ", ended=True) == Answer("a", True)
