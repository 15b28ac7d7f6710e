"""If these break, a decoder learns from text to answer what its scene does not say."""

from collections import Counter

import numpy as np
import pytest

from data_pipelines.build.scenes.captions import LANGUAGES
from data_pipelines.build.scenes.tasks.every import task_records
from data_pipelines.build.scenes.tasks.signs import WORDS
from tests.data_pipelines.scene_data import CONFIG, MANY, all_drawn, middle, named


@pytest.fixture(scope="module")
def drawn():
    return all_drawn()


def test_told_scenes_answer_what_their_cells_show(drawn):
    """The cell at the middle of every box holds the thing that the box is said to be of; what
    is counted is told, cells are answered by themselves, and words that are read were told.
    """
    forms, side = Counter(), CONFIG.grid
    names = {language: {getattr(g.kind, language): g.kind.glyph for g in drawn}
             for language in LANGUAGES}  # fmt: skip
    for index in range(MANY):
        told = task_records(CONFIG, drawn, task="told", split="train", index=index)
        for record in told.values():
            forms[record.meta["form"]] += 1
            before, _, after = record.text.partition("\n")
            assert record.task == "text" and not record.images
            if record.meta["form"] == "ocr":
                words = [word for word in WORDS[record.language] if word in after]
                assert words and all(unit in before for word in words for unit in
                                     ([word] if record.language == "en" else word))  # fmt: skip
                continue
            if record.meta["form"] in ("cells", "signs"):
                assert after.endswith(before)
                continue
            cells = np.array(list(before)).reshape(side, side)
            for region in record.regions:
                start, stop = region.span
                assert record.text[start:stop] == region.phrase
                said = after if region.phrase in ("This", "这") else region.phrase
                (name,) = named(said, drawn, record.language)
                for box in region.boxes:
                    column, row = (int(v * side) for v in middle(box))
                    assert cells[row, column] == names[record.language][name]
            if record.meta["form"] == "vqa":
                for name in named(after, drawn, record.language):
                    there = (cells == names[record.language][name]).sum()
                    assert there or after.endswith(("zero", "零个"))
    assert min(forms[form] for form in ("vqa", "grounding", "referring", "cells")) > 10
    assert min(forms[form] for form in ("grounded_caption", "signs", "ocr")) > 5
