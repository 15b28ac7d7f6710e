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
# What a thing is, wherever it stands, and how a box is written: from pictures of one object.
SCENES2_FIRST = {
    "cells": 3.0,
    "signs": 1.0,
    "scenes": 2.0,
    "single": 3.0,
    "grounded_caption": 3.0,
    "ocr": 1.0,
    "text": 0.5,
}
# To find what is named among others is what boxes, counts and relations all need, and each kind's
# name takes some thousand examples. An answer of one token is all about which thing was meant.
# Before things are told apart, or for more than one epoch, this is learnt by heart instead.
SCENES2_FIND = {
    "cells": 0.5,
    "places": 9.0,
    "signs": 0.3,
    "scenes": 0.5,
    "referring": 3.0,
    "single": 0.5,
    "grounded_caption": 0.5,
    "ocr": 0.3,
    "text": 0.3,
}
# The answer to a question is one token of loss where a grounded caption is forty, so questions
# learn little until they are much of what there is.
SCENES2_ASK = {
    "cells": 0.5,
    "places": 2.0,
    "signs": 0.3,
    "scenes": 1.0,
    "vqa": 8.0,
    "referring": 4.0,
    "grounded_caption": 0.5,
    "ocr": 0.5,
    "text": 0.5,
}
SCENES2 = {
    "cells": 0.5,
    "places": 1.0,
    "signs": 0.5,
    "scenes": 2.0,
    "vqa": 6.0,
    "grounding": 2.0,
    "referring": 4.0,
    "grounded_caption": 1.0,
    "single": 0.2,
    "ocr": 0.7,
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
