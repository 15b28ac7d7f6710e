"""VQA soft accuracy, as the benchmark's own scorer computes it.

An answer scores min(1, matches / 3) against nine of the ten human answers, averaged over which one
is left out. The scorer's habits are kept, for figures to compare: the prediction is normalised in
full (punctuation, capitals, number words, articles, contractions), the human answers in punctuation
only, and those not at all where all ten agree. So `zero` never matches ten times `zero`.
"""

import itertools
import re
from collections.abc import Sequence

NORMALISER = "vqa-v2: punctuation both sides, digits, articles and contractions of the prediction"
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {word: str(i) for i, word in enumerate(_NUMBERS)} | {"none": "0"}
_ARTICLES = ("a", "an", "the")
_CONTRACTIONS = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't "
    "haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't "
    "mightn't've might've mustn't must've needn't not've o'clock oughtn't shan't she'd've "
    "should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd've "
    "someone'll someone's something'd've something'll that's there'd there'd've there're there's "
    "they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're "
    "what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll "
    "why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've "
    "you'll you're you've"
).split()


def _spellings() -> dict[str, str]:
    """`dont` -> `don't`; of several apostrophes any may be missing."""
    table = {}
    for word in _CONTRACTIONS:
        first, *rest = word.split("'")
        for marks in itertools.product(("", "'"), repeat=len(rest)):
            spelled = first + "".join(mark + part for mark, part in zip(marks, rest))
            table[spelled] = word
    return table


_SPELLINGS = _spellings()


def strip_punctuation(text: str) -> str:
    """Marks go where one stands beside a space or a number has a thousands comma; otherwise each
    becomes a space. Periods go unless a digit follows.
    """
    out = text
    for mark in _PUNCTUATION:
        beside = f"{mark} " in text or f" {mark}" in text
        out = out.replace(mark, "" if beside or _COMMA_IN_NUMBER.search(text) else " ")
    return _PERIOD.sub("", out)


def normalise(text: str) -> str:
    """A prediction as the scorer compares it."""
    text = strip_punctuation(text.replace("\n", " ").replace("\t", " ").strip())
    words = [_DIGITS.get(word, word) for word in text.lower().split()]
    return " ".join(_SPELLINGS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(prediction: str, *, answers: Sequence[str]) -> float:
    """Soft accuracy in [0, 1] of one question (VQAv2, OKVQA, VizWiz, TextVQA)."""
    said = normalise(prediction)
    if len(set(answers)) > 1:
        answers = [strip_punctuation(answer) for answer in answers]
    hits = [answer == said for answer in answers]
    scores = [min(1.0, (sum(hits) - hit) / 3) for hit in hits]
    return sum(scores) / max(len(scores), 1)
