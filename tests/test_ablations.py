"""The ablations that come along: every arm is a page that parses, and is fair where it says so."""

import numpy as np
import pytest

from configs import stage1
from configs.ablations import adapter, frozen_vit, positions, queries, windows
from data_pipelines.build.scenes import SceneConfig, build_scenes
from data_pipelines.stream.stream import Stream
from launch.stage import parse
from launch.sweeps.grid import Arm, product
from launch.sweeps.plan import LINKED, override

PAGES = [adapter, frozen_vit, positions, queries, windows]


def parsed(page, base, variant):
    """{arm: (its model, what it trains, its stream)}, as a sweep makes them."""
    found = {}
    for arm in product([[Arm(n, o) for n, o in page.get_arms(variant).items()]]):
        linked = {two: arm.overrides[one] for one, two in LINKED.items() if one in arm.overrides}
        training, stream, _ = parse(override(base, arm.overrides | linked))
        found[arm.name] = training.model, training.optim.trainable, stream
    return found


@pytest.mark.parametrize("page", PAGES)
def test_released_arms_parse(page):
    for model, _, stream in parsed(page, stage1.get_config(), "").values():
        assert stream.seq_len / 7 >= model.adapter.num_queries + 2 + 30
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


@pytest.mark.parametrize("page", PAGES)
def test_demo_arms_differ_and_parse(page, scenes):
    """An arm that sets nothing, or what the other does, compares a model with itself."""
    arms = parsed(page, scenes, "demo")
    kinds = [(model, trained) for model, trained, _ in arms.values()]
    assert len(arms) >= 2 and all(kinds.count(kind) == 1 for kind in kinds)


@pytest.mark.parametrize("variant", ["", "demo"])
def test_adapters_are_compared_at_equal_token_counts(variant, scenes):
    arms = parsed(adapter, scenes if variant else stage1.get_config(), variant)
    tokens = {}
    for model, _, stream in arms.values():
        key = model.adapter.num_queries, stream.seq_len
        tokens.setdefault(key, []).append(model.adapter.kind)
    assert tokens and all(sorted(kinds) == sorted(adapter.KINDS) for kinds in tokens.values())


def test_demo_arms_see_the_same_pictures_in_the_same_steps(scenes):
    """Packing by length would show fewer queries more pictures, and others."""
    seen = []
    for overrides in queries.get_arms("demo").values():
        config = override(scenes, overrides)
        config.data.num_queries, config.data.num_workers = overrides["model.adapter.num_queries"], 0
        stream = Stream(parse(config)[1])
        seen.append([next(stream) for _ in range(3)])
        stream.close()
    for batches in seen[1:]:
        for mine, first in zip(batches, seen[0], strict=True):
            assert mine.image_mask.sum() == 64
            np.testing.assert_array_equal(mine.images, first.images)
