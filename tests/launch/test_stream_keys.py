"""If these break, a config page cannot say what the stream can do, or evaluation follows training's
shortcuts.
"""

import pytest

from configs import stage1
from data_pipelines.stream.config import WeightChange
from launch.stage import read


def page(**data):
    config = stage1.get_config()
    with config.unlocked():
        config.data.update(data)
    return config


def test_held_out_pictures_are_exact_unless_asked_otherwise():
    """Losses of runs that decode in different ways would not be comparable."""
    config = page(decode="fast")
    _, stream, heldout = read(config)
    assert (stream.decode, heldout.decode) == ("fast", "exact")
    with config.unlocked():
        config.heldout.decode = "fast"
    assert read(config)[2].decode == "fast"
    assert read(page())[1].decode == "exact"


def test_weights_change_by_config():
    config = page()
    with config.unlocked():
        config.data.sources.web_zh.changes = [dict(step=20_000, weight=1)]
    stream = read(config)[1]
    assert stream.sources[1].changes == (WeightChange(20_000, 1.0),)
    assert stream.weights_at(19_999) == [0.773, 0.227] and stream.weights_at(20_000) == [0.773, 1.0]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("decode", "quick", "config.data.decode must be one of 'exact', 'fast'"),
        ("changes", [dict(stepp=3, weight=1.0)], r"config.data.sources\.web_en.changes\[0\].stepp"),
        ("changes", [dict(step=3)], r"config.data.sources\.web_en.changes\[0\].weight is missing"),
        ("changes", [dict(step=0, weight=1.0)], "config.data.sources.web_en.changes: steps"),
    ],
)
def test_mistakes_name_their_key(key, value, message):
    config = page()
    with config.unlocked():
        (config.data.sources.web_en if key == "changes" else config.data)[key] = value
    with pytest.raises(ValueError, match=message):
        read(config)
