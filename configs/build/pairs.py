"""Two folders of pairs, `en` and `zh`, cleaned without asking for CLIP scores."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            sources=dict(
                en=dict(path="en", language="en", min_side=32, min_characters=5),
                zh=dict(path="zh", language="zh", min_side=32, min_characters=3),
            ),
            duplicates=dict(near_bits=12, text_copies=10),
            evaluation="",
        )
    )
