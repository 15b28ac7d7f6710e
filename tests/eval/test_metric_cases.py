"""Every metric beside the benchmarks' own scorers (recorded) and beside a brute force."""

import functools
import itertools
import json
import math
import pathlib

import numpy as np
import pytest

from qwenvl_jax.eval.anls import anls, edit_distance
from qwenvl_jax.eval.bleu import bleu
from qwenvl_jax.eval.cider import cider
from qwenvl_jax.eval.exact import exact_match, share_found
from qwenvl_jax.eval.grounding import grounding_accuracy, iou
from qwenvl_jax.eval.perplexity import perplexity
from qwenvl_jax.eval.relaxed import relaxed_accuracy
from qwenvl_jax.eval.vqa import vqa_accuracy
from qwenvl_jax.eval.words import words
from qwenvl_jax.text.markup import first_box

CASES = json.loads(
    (pathlib.Path(__file__).parents[1] / "reference" / "metric_cases.json").read_text("utf-8")
)
WORDS = "a b c d".split()


def test_vqa_accuracy_is_the_scorers():
    """Every habit of its normaliser is in these cases: commas, articles, agreeing answers."""
    for case in CASES["vqa"]:
        got = vqa_accuracy(case["prediction"], answers=case["answers"])
        assert got == pytest.approx(case["score"], abs=1e-6), case


def test_vqa_accuracy_leaves_each_answer_out_in_turn():
    """Counting all ten would give 1.0 to three matches, not 0.9."""
    for hits in range(11):
        answers = ["dog"] * hits + [f"cat{i}" for i in range(10 - hits)]
        nines = itertools.combinations(answers, 9)
        want = np.mean([min(1, nine.count("dog") / 3) for nine in nines])
        assert vqa_accuracy("dog", answers=answers) == pytest.approx(want)


def test_anls_is_the_scorers():
    """The distance folds white space and the length does not."""
    for case in CASES["anls"]:
        got = anls(case["prediction"], answers=case["answers"])
        assert got == pytest.approx(case["score"], abs=1e-6), case


def test_edit_distance_is_the_shortest_way():
    """A wrong diagonal in the table, beside the plain recursion."""

    @functools.cache
    def slow(a, b):
        if not a or not b:
            return len(a) + len(b)
        ways = slow(a[1:], b) + 1, slow(a, b[1:]) + 1, slow(a[1:], b[1:]) + (a[0] != b[0])
        return min(ways)

    texts = ["".join(p) for n in range(5) for p in itertools.product("ab", repeat=n)]
    for a, b in itertools.product(texts, texts):
        assert edit_distance(a, b) == slow(a, b)


def test_relaxed_accuracy_is_the_scorers():
    """Percent signs, zero targets and the edge of 5 %."""
    for case in CASES["relaxed"]:
        got = relaxed_accuracy(case["prediction"], target=case["target"])
        assert got == case["score"], case


def test_relaxed_accuracy_is_an_interval_about_the_target():
    """Taking the prediction as the base moves both edges."""
    for said in range(80, 121):
        assert relaxed_accuracy(str(said), target="100") == float(95 <= said <= 105)
    assert relaxed_accuracy("nan", target="100") == relaxed_accuracy("inf", target="100") == 0


def caption_cases():
    said = [words(text) for text in CASES["captions"]["predictions"]]
    truth = [[words(text) for text in texts] for texts in CASES["captions"]["references"]]
    return said, truth


def test_captions_score_as_after_the_java_tokeniser():
    """Within 1 %: overall, each picture, every order of BLEU."""
    said, truth = caption_cases()
    each = cider(said, references=truth)
    assert np.mean(each) == pytest.approx(CASES["captions"]["cider"], rel=0.01)
    np.testing.assert_allclose(each, CASES["captions"]["cider_each"], rtol=0.01, atol=1e-9)
    got = [bleu(said, references=truth, order=n) for n in (1, 2, 3, 4)]
    np.testing.assert_allclose(got, CASES["captions"]["bleu"], rtol=0.01)


def random_captions(rng, pictures=5):
    def text():
        return [str(word) for word in rng.choice(WORDS, rng.integers(4, 9))]

    return [text() for _ in range(pictures)], [[text(), text()] for _ in range(pictures)]


def test_cider_beside_dense_vectors():
    """A slip in the rarity, the clipping or the length penalty, over every possible n-gram."""
    said, truth = random_captions(np.random.default_rng(0))
    want = np.zeros(len(said))
    for n in range(1, 5):
        vocabulary = list(itertools.product(WORDS, repeat=n))

        def vector(text, n=n, vocabulary=vocabulary):
            runs = list(zip(*[text[k:] for k in range(n)]))
            return np.array([runs.count(gram) for gram in vocabulary], float)

        there = sum(np.any([vector(text) > 0 for text in texts], axis=0) for texts in truth)
        rarity = np.log(len(truth)) - np.log(np.maximum(there, 1))
        for i, texts in enumerate(truth):
            for text in texts:
                x, y = vector(said[i]) * rarity, vector(text) * rarity
                norms = np.linalg.norm(x) * np.linalg.norm(y)
                penalty = np.exp(-((len(said[i]) - len(text)) ** 2) / 72)
                want[i] += (np.minimum(x, y) @ y / norms if norms else 0) * penalty * 10 / 8
    np.testing.assert_allclose(cider(said, references=truth), want)


def test_bleu_beside_crossing_words_off():
    """Clipping done one by one: each n-gram of the prediction uses one up in the best reference."""
    said, truth = random_captions(np.random.default_rng(1), pictures=60)
    logs = []
    for n in range(1, 5):
        hits = total = 0
        for text, texts in zip(said, truth):
            runs = list(zip(*[text[k:] for k in range(n)]))
            pools = [list(zip(*[t[k:] for k in range(n)])) for t in texts]
            total += len(runs)
            for gram in set(runs):
                hits += min(runs.count(gram), max(pool.count(gram) for pool in pools))
        logs.append(math.log(hits / total))
    length = sum(map(len, said))
    near = sum(
        min(map(len, texts), key=lambda n: (abs(n - len(t)), n)) for t, texts in zip(said, truth)
    )
    want = math.exp(np.mean(logs)) * min(1, math.exp(1 - near / length))
    assert bleu(said, references=truth) == pytest.approx(want)
    assert bleu([["x"]], references=[[["a"]]]) == 0


def test_words_of_both_languages():
    """Chinese has no spaces: a sentence as one word would score 0 or 1 and nothing between."""
    assert words("It's a well-lit room, isn't it?") == "it 's a well-lit room is n't it".split()
    assert words("两只dog在跑。") == ["两", "只", "dog", "在", "跑"]


def test_iou_beside_counting_cells():
    """Boxes on a grid, cell by cell; empty and turned-round boxes overlap nothing."""
    rng = np.random.default_rng(0)
    for a, b in rng.integers(0, 6, (200, 2, 4)).tolist():
        cells = [
            {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])} for box in (a, b)
        ]
        both, either = cells[0] & cells[1], cells[0] | cells[1]
        got = iou([float(v) for v in a], [float(v) for v in b])
        assert got == pytest.approx(len(both) / max(len(either), 1))


def test_grounding_takes_the_first_box_and_survives_broken_answers():
    """A run must not end because a model left a tag open; that answer is wrong."""
    box = (0.1, 0.1, 0.5, 0.5)
    right, wrong = "<box>(100,100),(500,500)</box>", "<box>(600,600),(900,900)</box>"
    assert grounding_accuracy(first_box(f"<ref> a dog</ref>{right}{wrong}"), box=box) == 1
    assert grounding_accuracy(first_box(wrong + right), box=box) == 0
    for broken in ("", "no box", "<box>(100,100),(500", "<box>(1,2,3)</box>", "</box>"):
        assert grounding_accuracy(first_box(broken), box=box) == 0


def test_exact_match_and_shares():
    """Case, spaces and a period are not the answer's content; other marks are."""
    assert exact_match(" A Dog. ", target="a dog") == exact_match("红色。", target="红色") == 1
    assert exact_match("a dogs", target="a dog") == exact_match("", target="a dog") == 0
    assert share_found(list("红红绿"), target=list("红绿绿")) == pytest.approx(2 / 3)
    assert share_found([], target=[]) == 1


def test_perplexity_of_a_uniform_guess_is_the_vocabulary():
    """Base 2 or a lost minus sign would show; the name says whose perplexity it is."""
    assert perplexity({"loss/zh": math.log(64)}) == pytest.approx({"perplexity/zh": 64})
    assert perplexity({"loss": 1e4}) == {"perplexity": math.inf}
