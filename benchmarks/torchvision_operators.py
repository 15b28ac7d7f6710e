"""Operators that torchvision's wheel lacks beside torch's CPU build."""

from typing import Any


def define() -> Any | None:
    """Give two operators a signature, as torchvision, which open_clip and transformers import, asks
    for them; none is called here.

    Returns:
      The library that holds them, which must live as long as they are needed; None where
      torchvision imports without, or is not installed.
    """
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    except ImportError:
        return None
    return None
