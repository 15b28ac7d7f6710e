"""If these break, a sample tells its own answers, or two in a row do: the training loss falls and
nothing is learnt of the pictures.
"""

from typing import get_args

import pytest

from data_pipelines.build.scenes.captions import LANGUAGES
from data_pipelines.build.scenes.layout import Split
from data_pipelines.build.scenes.tasks.every import task_records
from tests.data_pipelines.scene_data import CONFIG, MANY, all_drawn, asks, named


@pytest.fixture(scope="module")
def drawn():
    return all_drawn()


@pytest.mark.parametrize("task", ["vqa", "grounded_caption"])
def test_training_asks_much_of_a_picture_at_once(drawn, task):
    """A picture's questions in one sample are worth their pictures' share of a step only if each
    is another one; and who is scored is asked one, or the answers before would tell.
    """
    for index in range(20):
        for split in get_args(Split):
            records = task_records(CONFIG, drawn, task=task, split=split, index=index)
            for record in records.values():
                every = [ask[4:7] for ask in asks(record)]
                assert len(set(every)) == len(every)
                if split != "train":
                    assert len(every) == 1
    many = [
        len(record.more)
        for index in range(20)
        for record in task_records(CONFIG, drawn, task=task, split="train", index=index).values()
    ]
    assert max(many) >= 2


@pytest.mark.parametrize("task", ["vqa", "places", "referring"])
def test_no_answer_tells_another(drawn, task):
    """Of two things the place of one tells that of the other, and one side the opposite one: asked
    in one sample, a model learns to eliminate and never to look (its loss falls, its scores stay
    at chance).
    """
    sides = {"left", "right", "above", "below", "左边", "右边", "上面", "下面"}
    alone = 0
    for index in range(60):
        records = task_records(CONFIG, drawn, task=task, split="train", index=index)
        for record in records.values():
            if task != "vqa" or record.text in sides:
                alone += 1
                assert not record.more
            assert not sides & {ask.text for ask in record.more}
    assert alone > 50


def test_each_language_asks_its_own(drawn):
    """The same ask twice within a few steps would be remembered, and the training loss of one
    language would lie below that of held-out scenes.
    """
    for task in ("places", "referring", "vqa"):
        same = 0
        for index in range(MANY):
            made = task_records(CONFIG, drawn, task=task, split="train", index=index)
            about = []
            for language in LANGUAGES:
                record = made[f"{task}_{language}"]
                text = record.question or record.regions[0].phrase
                about.append([g for g in range(len(drawn)) if getattr(drawn[g].kind, language) in
                              named(text, drawn, language)])  # fmt: skip
            same += about[0] == about[1]
        assert 0 < same < 0.9 * MANY
