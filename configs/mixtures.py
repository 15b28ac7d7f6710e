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
# Where a thing is, is learnt within 300 steps of pictures that show one alone, and hardly at all
# where several must be told apart as well: so these come first.
SCENES2_FIRST = {
    "cells": 2.0,
    "signs": 2.0,
    "scenes": 1.0,
    "vqa": 1.0,
    "single": 4.0,
    "ocr": 1.0,
    "text": 0.5,
}
SCENES2 = {
    "cells": 1.0,
    "signs": 1.0,
    "scenes": 2.0,
    "vqa": 4.0,
    "grounding": 1.5,
    "referring": 4.0,
    "grounded_caption": 1.0,
    "single": 0.5,
    "ocr": 1.0,
    "text": 0.5,
}
# The answer to a question is one token of loss where a grounded caption is forty, so questions
# learn little until they are much of what there is.
SCENES2_LAST = {
    "cells": 0.5,
    "signs": 0.5,
    "scenes": 1.5,
    "vqa": 8.0,
    "grounding": 1.5,
    "referring": 4.0,
    "grounded_caption": 1.0,
    "ocr": 0.7,
    "text": 0.5,
}
# Some of stage 2 stays in the mix: so small a model would unlearn it in a few hundred steps.
SCENES3 = {task: n / 4 for task, n in SCENES2.items() if task not in ("single", "cells")}
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
