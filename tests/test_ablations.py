"""The ablations that come along: every arm is a page that parses, and is fair where it says so."""

import numpy as np
import pytest

from configs import stage1, stage2
from configs.ablations import adapter, frozen_vit, positions, queries, windows
from data_pipelines.build.scenes import SceneConfig, build_scenes
from data_pipelines.stream.stream import Stream
from launch.stage import read
from launch.sweeps.grid import Arm, product
from launch.sweeps.plan import override


@pytest.mark.parametrize(
    ("page", "stage"),
    [(queries, stage1), (frozen_vit, stage1), (adapter, stage1), (adapter, stage2),
     (positions, stage2), (windows, stage2)],
)  # fmt: skip
def test_released_arms_parse(page, stage):
    """Each arm is a config of its own; all have the tokens of an image and a row to hold them."""
    models = set()
    for arm in product([[Arm(n, o) for n, o in page.get_arms("").items()]]):
        training, stream, _ = read(override(stage.get_config(), arm.overrides))
        assert stream.seq_len / 7 >= training.model.adapter.num_queries + 2 + 30
        assert stream.image_size == training.model.vit.image_size
        models.add((training.model, training.optim.trainable))
    assert len(models) == len(page.get_arms(""))
    with pytest.raises(ValueError, match="'half' is not known"):
        page.get_arms("half")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    sizes = SceneConfig(
        scenes=200, eval_scenes=8, text_scenes=400, max_objects=2, shards=2, processes=1
    )
    build_scenes(sizes, folder)
    return stage1.get_config(f"demo,data={folder}")


@pytest.mark.parametrize("page", [adapter, frozen_vit, positions, queries, windows])
def test_demo_arms_differ_and_parse(page, scenes):
    """An arm that sets nothing, or what another does, compares a model with itself; more tokens
    for one kind of adapter would compare their number.
    """
    kinds, tokens = [], set()
    for arm in product([[Arm(n, o) for n, o in page.get_arms("demo").items()]]):
        training, stream, _ = read(override(scenes, arm.overrides))
        kinds.append((training.model, training.optim.trainable))
        tokens.add((training.model.adapter.num_queries, stream.seq_len))
    assert len(kinds) >= 2 and len(set(kinds)) == len(kinds)
    assert page is queries or len(tokens) == 1


def test_demo_arms_see_the_same_pictures_in_the_same_steps(scenes):
    """Packing by length would show fewer queries more pictures, and others."""
    seen = []
    for overrides in queries.get_arms("demo").values():
        config = override(scenes, overrides)
        config.data.num_workers = 0
        stream = Stream(read(config)[1])
        seen.append([next(stream) for _ in range(3)])
        stream.close()
    for batches in seen[1:]:
        for mine, first in zip(batches, seen[0], strict=True):
            assert mine.image_mask.sum() == 64
            np.testing.assert_array_equal(mine.images, first.images)
