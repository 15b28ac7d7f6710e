"""The font that sheets and drawn boxes are labelled in."""

from importlib.metadata import PackageNotFoundError, distribution


def label_font() -> str:
    """The Noto Sans CJK font of the package `cvttf-notosanscjk-regular`: Latin and Chinese.

    Raises:
      FileNotFoundError: the package is not installed.
    """
    try:
        files = distribution("cvttf-notosanscjk-regular").files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.name.endswith(".otf"):
            return str(file.locate())
    raise FileNotFoundError("labels need the font package: pip install cvttf-notosanscjk-regular")
