"""What stages 2 and 3 read, in the paper's sample counts (arXiv 2308.12966 v3, table 3).

The paper gives counts per task. Where a task has both languages, their shares are this project's:
captions follow stage 1's 77.3 % English and 22.7 % Chinese; OCR, text and dialogues are halved.
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
