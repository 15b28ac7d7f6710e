"""If these break, a decoder learns from text to answer what its scene does not say."""

import re
from collections import Counter

import numpy as np
import pytest

from data_pipelines.build.scenes.captions import LANGUAGES
from data_pipelines.build.scenes.tasks.cells import NAMES
from data_pipelines.build.scenes.tasks.every import task_records
from tests.data_pipelines.scene_data import CONFIG, MANY, all_drawn, asks, middle, named


@pytest.fixture(scope="module")
def drawn():
    return all_drawn()


def test_told_scenes_answer_what_their_cells_show(drawn):
    """What is told is read and not learnt. The cell at the middle of every box holds the thing that
    the box is said to be of; what is counted is told, cells are answered by themselves, and words
    that are read were told.
    """
    forms, side = Counter(), CONFIG.grid
    names = {language: {getattr(g.kind, language): g.kind.glyph for g in drawn}
             for language in LANGUAGES}  # fmt: skip
    for index in range(MANY):
        told = task_records(CONFIG, drawn, task="told", split="train", index=index)
        for record in told.values():
            forms[record.meta["form"]] += 1
            assert record.task == "text" and not record.images and not record.text
            first, *rest = NAMES[: side**2]
            cells = re.fullmatch(
                f"{first}(.+)" + "".join(f"{n}(.+)" for n in rest), record.question
            )
            cells, (_, *every) = cells.groups(), asks(record)
            if record.meta["form"] == "ocr":
                (words,) = ([region.phrase for region in ask.regions] for ask in every)
                assert words and all(unit in cells for word in words for unit in
                                     ([word] if record.language == "en" else word))  # fmt: skip
                continue
            if record.meta["form"] in ("cells", "signs"):
                assert [ask.text for ask in every] == ["".join(cells)]
                continue
            cells = np.array(cells).reshape(side, side)
            for ask in every:
                for region in ask.regions:
                    (name,) = named(region.phrase or ask.text, drawn, record.language)
                    for box in region.boxes:
                        column, row = (int(v * side) for v in middle(box))
                        assert cells[row, column] == names[record.language][name]
                if record.meta["form"] == "vqa":
                    for name in named(ask.question, drawn, record.language):
                        there = (cells == names[record.language][name]).sum()
                        assert there or ask.text in ("zero", "零个")
    assert min(forms[form] for form in ("vqa", "grounding", "referring", "cells")) > 10
    assert min(forms[form] for form in ("grounded_caption", "signs", "ocr")) > 5
