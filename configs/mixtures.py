"""What stages 2 and 3 read, in the paper's sample counts (arXiv 2308.12966 v3, table 3).

The paper gives counts per task. Where a task has both languages, their shares are this project's:
captions follow stage 1's 77.3 % English and 22.7 % Chinese; OCR, text and dialogues are halved.

SCENES0 to SCENES3 are for the recipe's stages: relative weights of the embedded scenes' tasks, in
both languages alike. Its scores are compared task by task and language by language, so a task gets
what it needs to be learnt, not what the paper's crawl happened to hold.
"""

from ml_collections import ConfigDict

# Millions of samples: task -> language -> count. 76.8 in all, or one pass of stage 2: 19,000 steps
# of 4,096.
STAGE2 = {
    "caption": {"en": 0.773 * 19.7, "zh": 0.227 * 19.7},
    "vqa": {"en": 3.6},
    "grounding": {"en": 3.5},
    "referring": {"en": 8.7},
    "grounded_caption": {"en": 8.7},
    "ocr": {"en": 12.4, "zh": 12.4},
    "text": {"en": 3.9, "zh": 3.9},
}
# 350,000 dialogues, those without a picture among them.
STAGE3 = {"chat": {"en": 0.175, "zh": 0.175}}

SCENES0 = {"text": 1.0, "told": 4.0}
# Captions, most of them of what each cell of the picture holds: see `scenes/tasks/cells.py`.
SCENES1 = {"cells": 3.0, "signs": 2.0, "scenes": 1.0}
# One skill after another: what a thing is, wherever it stands, and how a box is written; then to
# find by its name one thing among several, which is what relations and boxes need; then those. Each
# alone is learnt within some hundred steps, most of it suddenly, and hardly at all beside others in
# thousands; what is not asked meanwhile is forgotten, and comes back when all are mixed.
SCENES2_NAME = {
    "cells": 3.0,
    "signs": 0.7,
    "scenes": 1.5,
    "single": 2.0,
    "grounded_caption": 4.0,
    "ocr": 0.7,
    "text": 0.4,
}
SCENES2_FIND = {"places": 1.0}
SCENES2_ASK = {"vqa": 1.0}
SCENES2_BOX = {"referring": 1.0, "grounding": 1.0}
# The answer to a question is one token of loss where a grounded caption is forty, so questions are
# much of what there is.
SCENES2 = {
    "cells": 0.3,
    "places": 0.2,
    "signs": 0.3,
    "scenes": 2.5,
    "vqa": 6.5,
    "grounding": 3.5,
    "referring": 2.0,
    "grounded_caption": 0.5,
    "single": 0.1,
    "ocr": 0.5,
    "text": 0.5,
}
# Some of stage 2 stays in the mix: so small a model would unlearn it in a few hundred steps.
SCENES3 = {task: n / 2 for task, n in SCENES2.items() if task not in ("single", "cells", "places")}
SCENES3 |= {"chat": 8.0}


def sources(mixture: dict[str, dict[str, float]], folder: str) -> ConfigDict:
    """`config.data.sources` of a mixture: source TASK_LANGUAGE lies in FOLDER/TASK_LANGUAGE, and
    its weight is its number of samples.
    """
    return ConfigDict(
        {
            f"{task}_{language}": dict(
                path=f"{folder}/{task}_{language}", language=language, weight=count
            )
            for task, languages in mixture.items()
            for language, count in languages.items()
        }
    )


def scenes(mixture: dict[str, float]) -> dict[str, float]:
    """Weights of the embedded scenes' sources: TASK_en and TASK_zh share a task's."""
    return {
        f"{task}_{language}": weight / 2
        for task, weight in mixture.items()
        for language in ("en", "zh")
    }
