"""Object kinds in captions: the figure that the demo is judged by."""

import pytest

from qwenvl_jax.eval import kinds

VOCABULARY = ("dog", "hot dog", "cat", "bus", "tomato", "ant", "orange")


def test_the_longest_name_wins_and_each_character_counts_once():
    """Else every `hot dog` also earned a `dog`, and a right caption would lose precision."""
    assert kinds.mentioned("a hot dog on grass", VOCABULARY, "en") == {"hot dog"}
    assert kinds.mentioned("a dog beside a hot dog", VOCABULARY, "en") == {"dog", "hot dog"}


@pytest.mark.parametrize(
    ("caption", "want"),
    [
        ("two dogs and three buses", {"dog", "bus"}),
        ("two tomatoes.", {"tomato"}),
        ("An elephant in a category", set()),  # neither ant nor cat
        ("Orange, above a CAT", {"orange", "cat"}),
        ("", set()),
    ],
)
def test_english_matches_whole_words_with_plurals(caption, want):
    """Substrings would count as named; plurals and capitals must not be lost.

    What comes back are names of the vocabulary, for they are compared with the truth as a set.
    """
    assert kinds.mentioned(caption, VOCABULARY, "en") == want


def test_chinese_needs_no_word_boundaries():
    """Chinese is written without spaces: a rule with boundaries would find nothing."""
    names = ("狗", "热狗", "猫", "公共汽车")
    assert kinds.mentioned("两只猫在公共汽车的左边", names, "zh") == {"猫", "公共汽车"}
    assert kinds.mentioned("热狗", names, "zh") == {"热狗"}


def test_score_by_hand():
    """Recall and precision over all pictures together, a kind counting once per picture.

    Picture 1: {dog, cat} there, {dog, bus} said: 1 hit. Picture 2: {bus} there, twice, and said:
    1 hit. Picture 3: {cat} there, nothing said. Named 2 of 4; correct 2 of 3.
    """
    captions = ["a dog and a bus", "a bus behind a bus", "grass"]
    truth = [["dog", "cat"], ["bus", "bus"], ["cat"]]
    got = kinds.score(captions, truth, VOCABULARY, "en")
    assert got.named == pytest.approx(2 / 4)
    assert got.correct == pytest.approx(2 / 3)


def test_score_of_nothing_is_zero_not_an_error():
    """A model that is silent at first must not stop an evaluation."""
    assert kinds.score(["", ""], [[], []], VOCABULARY, "en") == kinds.KindScores(0.0, 0.0)


def test_a_caption_too_few_is_an_error():
    """A caption paired with another picture's truth would be a wrong figure without a sign."""
    with pytest.raises(ValueError):
        kinds.score(["a dog"], [["dog"], ["cat"]], VOCABULARY, "en")
