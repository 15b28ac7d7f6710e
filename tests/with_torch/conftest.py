"""Everything here needs torch: marked as such, so that a run without it can leave it out."""

import functools
import os
import tempfile
from pathlib import Path

import pytest

from benchmarks import torchvision_operators as operators

# transformers copies the code of an export here before it runs it.
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="modules_of_exports")

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.torch)


@pytest.fixture(scope="session")
def exported(tmp_path_factory, torchvision_operators):
    """kind -> the export of that model, made once; see `exports`."""
    from tests.with_torch import exports

    @functools.cache
    def make(kind: str):
        return exports.make(tmp_path_factory.mktemp("export"), kind)

    return make


@pytest.fixture(scope="session", autouse=True)
def torchvision_operators():
    """open_clip and transformers import torchvision, which must not fail for what nobody calls."""
    library = operators.define()
    yield
    del library
