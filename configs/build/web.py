"""Cleaning of the paper's web sources (arXiv 2308.12966 v3, appendix A.1).

The paper names the rules and gives no threshold; these are ours. CLIP scores are those of ViT-B/32
for English, as LAION and DataComp ship them. LAION-COCO's captions are synthetic, so its score asks
for less; LAION-zh keeps 97 % in the paper, and its scores come from another model: none is asked.
Sources stand in order of preference: of two copies the earlier source keeps its own.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    english = dict(language="en", min_characters=5, max_characters=500)
    chinese = dict(language="zh", min_characters=3, max_characters=300)
    return ConfigDict(
        dict(
            sources=dict(
                coco=dict(path="coco", **english),
                cc3m=dict(path="cc3m", **english),
                cc12m=dict(path="cc12m", **english),
                sbu=dict(path="sbu", **english),
                laion_coco=dict(path="laion_coco", min_clip_score=0.26, **english),
                datacomp=dict(path="datacomp", min_clip_score=0.30, **english),
                coyo=dict(path="coyo", min_clip_score=0.29, **english),
                laion_en=dict(path="laion_en", min_clip_score=0.32, **english),
                laion_zh=dict(path="laion_zh", **chinese),
                inhouse_zh=dict(path="inhouse_zh", **chinese),
            ),
            duplicates=dict(near_bits=12, text_copies=10),
            evaluation="",  # a folder of pictures that no record may show
            # For sources without scores in their metadata: below the input, written beforehand by
            # `launch/clip_score.py --config=configs/build/web.py`.
            clip_scores="",
        )
    )
