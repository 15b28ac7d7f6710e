"""A resume with another config: a changed seed, head count or rate must not pass without a word."""

import json

import pytest

from configs import stage1
from launch import resumption


def plain(**fields) -> dict:
    """Stage 1's config with fields set, as a work directory stores it."""
    config = stage1.get_config()
    with config.unlocked():
        for key, value in fields.items():
            *groups, name = key.split("__")
            node = config
            for group in groups:
                node = node[group]
            node[name] = value
    return json.loads(config.to_json())


@pytest.mark.parametrize(
    ("field", "value", "old"),
    [
        ("model__decoder__heads", 16, 32),
        ("model__dtype", "float32", "bfloat16"),
        ("data__seed", 7, 0),
        ("data__seq_len", 1024, 2048),
        ("data__global_rows", 64, 4608),
        ("optim__trainable", ".*", "(vit|adapter)/.*"),
        ("seed", 1, 0),
    ],
)
def test_what_the_saved_numbers_depend_on_is_refused_by_name(field, value, old):
    key = f"config.{field.replace('__', '.')}"
    with pytest.raises(ValueError) as error:
        resumption.compare(plain(), plain(**{field: value}), step=10, workdir="runs/x")
    assert f"{key}: saved {old!r}, given {value!r}" in str(error.value)


def test_all_that_is_refused_is_in_one_message():
    given = plain(seed=1, data__look_ahead=3)
    with pytest.raises(ValueError, match=r"config\.data\.look_ahead.*; config\.seed"):
        resumption.compare(plain(), given, step=10, workdir="runs/x")


def test_another_schedule_is_told_with_both_rates(caplog):
    """A finished run of 1,200 steps given 2,400 went from 1e-6 back to 5e-4 without a word."""
    saved, given = plain(optim__steps=1200), plain(optim__steps=2400)
    resumption.compare(saved, given, step=1200, workdir="runs/x")
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "config.optim.steps was 1200, from step 1200 on it is 2400" in said
    assert "learning rate at step 1200: 0.000" in said and "it was to be 1e-06" in said


@pytest.mark.parametrize(
    "fields",
    [
        {"mesh__fsdp": 8, "mesh__data": 1},
        {"data__num_workers": 0, "checkpoint__every": 7, "eval_every": 9},
        {"optim__accumulation": 3, "loss_chunk": 32},
        {"data__sources__web_en__path": "/elsewhere/web_en"},
    ],
)
def test_speed_place_and_what_is_written_are_free(caplog, fields):
    """A preempted pod comes back with other sizes, at another mount."""
    resumption.compare(plain(), plain(**fields), step=10, workdir="runs/x")
    assert not caplog.records


def test_a_config_of_an_older_version_is_compared_with_the_defaults():
    """It lacks fields that came later, and says the image's size twice."""
    saved = plain(data__image_size=224, data__num_queries=256)
    del saved["checkpoint"]["verify"], saved["scores"]
    resumption.compare(saved, plain(), step=10, workdir="runs/x")
