"""The config of a work directory: what the weights were trained with, whatever a file says."""

import json

import pytest

from qwenvl_jax.checkpoint import atomic, run_config
from tests.checkpoint import small


@pytest.fixture
def work(tmp_path):
    run_config.write(tmp_path, small.RUN_CONFIG)
    small.write(tmp_path, (1, 2))
    return tmp_path


def test_it_is_read_as_it_was_written(work, caplog):
    assert run_config.read(work) == small.RUN_CONFIG
    assert json.loads((work / "config.json").read_text()) == small.RUN_CONFIG
    assert not caplog.text
    assert not list(work.glob("*.partial"))


def test_each_flipped_bit_is_named_or_harmless(work, caplog):
    """A digit of `layers` that is another digit gave a model of another size, or none."""
    content = (work / "config.json").read_bytes()
    for place in range(len(content)):
        small.flip(work / "config.json", place)
        caplog.clear()
        assert run_config.read(work) == small.RUN_CONFIG
        try:
            same = json.loads((work / "config.json").read_bytes()) == small.RUN_CONFIG
        except ValueError:
            same = False
        assert same or str(work / "config.json") in caplog.text
        (work / "config.json").write_bytes(content)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", None])
def test_a_lost_file_is_replaced_by_the_step(work, content, caplog):
    (work / "config.json").unlink()
    if content is not None:
        (work / "config.json").write_bytes(content)
    assert run_config.read(work) == small.RUN_CONFIG
    assert "taken instead: the config of step 2" in caplog.text


def test_a_difference_is_told_by_field(work, caplog):
    """A run that was given another config and died before it saved: weights have the old one."""
    other = small.RUN_CONFIG | {"optim": {"steps": 12}, "new": 1}
    run_config.write(work, other)
    assert run_config.read(work) == small.RUN_CONFIG
    assert "new: 1 there, None in the step; optim.steps: 12 there, 9 in the step" in caplog.text


def test_a_damaged_copy_gives_way_to_an_older_step(work, caplog):
    small.flip(work / "checkpoints" / "2" / "meta" / "metadata")
    (work / "config.json").unlink()
    assert run_config.read(work) == small.RUN_CONFIG
    assert "config of step 2 not read" in caplog.text
    assert "taken instead: the config of step 1" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is no work directory: it has no config.json"), (b"{", "config.json is damaged")],
)
def test_nothing_to_read_is_an_error(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        run_config.read(tmp_path)


def test_a_write_that_fails_leaves_the_old_file(work, monkeypatch):
    """It was written in place: a kill or a full disk in between left half a config."""

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(OSError, match="no space left on .*: config.json needs"):
        run_config.write(work, {"seed": 1})
    assert json.loads((work / "config.json").read_text()) == small.RUN_CONFIG
    assert not list(work.glob("*.partial"))
