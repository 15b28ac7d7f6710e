"""Everything here needs torch: marked as such, so that a run without it can leave it out."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.torch)


@pytest.fixture(scope="session", autouse=True)
def torchvision_operators():
    """open_clip and transformers import torchvision, whose wheel has no operators for torch's CPU
    build.

    None of them is used here; two have to have a signature for that import to succeed.
    """
    import torch

    library = None
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield
    del library
