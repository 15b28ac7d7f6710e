"""README's promise: every field can be set on the command line, and a mistake is one line."""

import dataclasses
import typing

import pytest
from absl import flags

from data_pipelines.stream.config import SourceConfig, StreamConfig
from launch import pages, resumption, stage
from launch.loop_scores import ScoresConfig
from qwenvl_jax.train.config import TrainConfig

PAGE = "configs/stage1.py"
OTHER = {int: "7", float: "0.125", bool: "True", str: "word"}


def fields_of(cls, prefix="") -> dict[str, typing.Any]:
    """`optim.steps` -> its type, of every field of a settings class and of those in it."""
    found = {}
    for name, hint in typing.get_type_hints(cls).items():
        if name not in {field.name for field in dataclasses.fields(cls)}:
            continue
        if dataclasses.is_dataclass(hint):
            found |= fields_of(hint, f"{prefix}{name}.")
        else:
            found[prefix + name] = hint
    return found


def every_field() -> dict[str, typing.Any]:
    stream = {k: v for k, v in fields_of(StreamConfig).items() if k != "sources"}
    stream = {k: v for k, v in stream.items() if k not in pages.OF_THE_MODEL}
    source = {f"sources.web_en.{k}": v for k, v in fields_of(SourceConfig).items() if k != "name"}
    found = fields_of(TrainConfig)
    for group in ("data", "heldout"):
        found |= {f"{group}.{k}": v for k, v in (stream | source).items()}
    return found | {f"scores.{k}": v for k, v in fields_of(ScoresConfig).items()}


@pytest.mark.parametrize("page", [PAGE, "configs/stage2.py", "configs/stage3.py"])
def test_every_field_of_every_class_is_a_flag(page):
    """14 of 78 could not be set, the paper's own start among them."""
    wanted, arguments = {}, []
    for key, hint in every_field().items():
        if ".sources." in key and page != PAGE:
            continue
        if typing.get_origin(hint) is tuple:
            continue
        choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
        value = choices[-1] if choices else OTHER[hint if hint in OTHER else str]
        wanted[key] = type(choices[0])(value) if choices else (hint)(value == "True" or value)
        if hint is bool:
            wanted[key] = True
        arguments.append(f"--config.{key}={value}")
    assert len(wanted) > 90
    config = pages.load(page, *arguments)
    for key, value in wanted.items():
        node = config
        for part in key.split("."):
            node = node[part]
        assert (node, type(node)) == (value, type(value)), key


def test_every_field_has_a_class_for_a_resume():
    """A field that nobody thought of would change a run in silence at its next start."""
    for key in every_field():
        assert resumption.class_of(key) in (resumption.REFUSED, resumption.TOLD, resumption.FREE)


def test_lists_and_changes_of_weights_are_flags():
    config = pages.load(
        PAGE,
        "--config.optim.restarts=(9000, 20000)",
        "--config.data.sources.web_en.changes=((500, 0.5), (900, 0.25))",
    )
    training, stream, _ = stage.read(config)
    assert training.optim.restarts == (9000, 20000)
    assert [stream.sources[0].weight_at(step) for step in (0, 500, 900)] == [0.773, 0.5, 0.25]


def test_a_source_is_added_weighed_and_left_out():
    fields = ["path=data/mine", "language=zh", "weight=0.5"]
    added = [f"--config.{g}.sources.mine.{field}" for g in ("data", "heldout") for field in fields]
    _, stream, held = stage.read(
        pages.load(PAGE, *added, "--config.data.sources.web_en.weight=0.25")
    )
    weights = {s.name: s.weight for s in stream.sources}
    assert weights == {"web_en": 0.25, "web_zh": 0.227, "mine": 0.5}
    assert {s.name: s.path for s in held.sources}["mine"] == "data/mine"
    _, stream, held = stage.read(pages.load(PAGE, "--config.data.sources.web_zh.weight=0"))
    assert [s.name for s in stream.sources] == [s.name for s in held.sources] == ["web_en"]


def test_held_out_fields_follow_the_stream_unless_set():
    _, stream, held = stage.read(pages.load(PAGE, "--config.data.look_ahead=9"))
    assert (stream.look_ahead, held.look_ahead) == (9, 9)
    _, stream, held = stage.read(pages.load(PAGE, "--config.heldout.look_ahead=5"))
    assert (stream.look_ahead, held.look_ahead) == (64, 5)


@pytest.mark.parametrize(
    ("page", "field", "says"),
    [
        (PAGE, "--config.optim.stepz=3", "config.optim.stepz is not known; did you mean steps"),
        (PAGE, "--config.optin.steps=3", "config.optin is not known; did you mean optim"),
        (PAGE, "--config.optim.steps=abc", "config.optim.steps=abc"),
        (PAGE, "--config.optim.steps.x=1", "config.optim.steps is no group"),
        (PAGE, "--config.data.image_size=448", "is config.model.vit.image_size: set that"),
        (PAGE, "--config.data.sources.web_en.wait=1", "did you mean weight"),
        ("configs/stage9.py", "", "configs/stage9.py: there is no such file"),
        ("configs/stage1.py:dema", "", "'dema' is not known; there is: demo"),
        ("configs/stage1.py:demo,data", "", "'data' has no value"),
        ("configs/stage1.py:demo,data=/nope", "", "no scenes there"),
        ("configs/common.py", "", "get_config"),
    ],
)
def test_a_mistake_names_key_and_nearest(page, field, says):
    with pytest.raises((flags.Error, AttributeError)) as error:
        pages.load(page, *([field] if field else []))
    assert says in str(error.value)
    assert "Traceback" not in str(error.value)
