"""Going back to a step, what comes with one, and what a step must fit."""

import json
import logging

import numpy as np
import pytest

from qwenvl_jax.checkpoint import intact, manifest
from qwenvl_jax.checkpoint.manager import Checkpoints
from qwenvl_jax.checkpoint.policy import CheckpointConfig
from tests.checkpoint import small


def test_an_exact_step_sets_newer_ones_aside(tmp_path):
    """A run that goes back before a spike must lose nothing: the other branch is still there."""
    small.write(tmp_path, (1, 2, 3))
    back = small.restore(tmp_path, step=1)
    assert back.step == 1
    np.testing.assert_array_equal(
        back.params["adapter"]["query"], small.params(1)["adapter"]["query"]
    )
    np.testing.assert_array_equal(back.data, small.DATA + 1)
    assert small.steps(tmp_path) == [1]
    aside = tmp_path / "checkpoints-set-aside"
    manifest.verify(aside / "2")
    checkpoints = small.opened(tmp_path)
    small.restore(tmp_path)
    for step in (2, 3):
        small.save(checkpoints, step)
    checkpoints.close()
    small.restore(tmp_path, step=2)
    assert sorted(p.name for p in aside.iterdir()) == ["2", "3", "3.1"]
    assert not (tmp_path / "checkpoints-damaged").exists()


def test_a_step_that_is_not_there_is_told_with_those_that_are(tmp_path):
    small.write(tmp_path, (2, 4))
    with pytest.raises(ValueError, match=r"config.resume.step=3: no such step .*; kept: 2, 4"):
        small.restore(tmp_path, step=3)
    assert small.steps(tmp_path) == [2, 4]
    with pytest.raises(ValueError, match="kept: none"):
        small.restore(tmp_path / "other", step=3)


def test_a_damaged_step_that_was_asked_for_is_refused(tmp_path):
    """Another one in its place would train on from where nobody wanted."""
    small.write(tmp_path, (1, 2))
    small.flip(tmp_path / "checkpoints" / "1" / "meta" / "metadata")
    with pytest.raises(ValueError, match=r"step=1 is damaged: .*metadata is damaged.*; kept: 1, 2"):
        small.restore(tmp_path, step=1)
    assert small.steps(tmp_path) == [1, 2]


def test_extra_data_come_back_as_they_were(tmp_path):
    """A window of losses decides what is skipped: one rounded number, and a resumed run differs."""
    window = np.random.default_rng(0).standard_normal(128).tolist()
    extra = {"window": window, "skipped": [[3, "spike"]], "restarts": 2}
    checkpoints = small.opened(tmp_path)
    small.save(checkpoints, 1)
    small.save(checkpoints, 2, extra=extra)
    with pytest.raises(ValueError, match="not JSON compliant"):
        small.save(checkpoints, 3, extra={"loss": float("nan")})
    checkpoints.close()
    assert small.restore(tmp_path).extra == extra
    assert small.restore(tmp_path, step=1).extra == {}


def test_a_checkpoint_from_before_extra_data_has_none(tmp_path):
    small.write(tmp_path, (1,))
    where = tmp_path / "checkpoints" / "1"
    meta = json.loads((where / "meta" / "metadata").read_text())
    del meta["extra"]
    (where / "meta" / "metadata").write_text(json.dumps(meta))
    manifest.write(where)
    assert small.restore(tmp_path).extra == {}


def test_a_step_is_saved_once(tmp_path, caplog):
    """A signal at a step that was just saved must not write it twice, nor an older one after it."""
    checkpoints = small.opened(tmp_path)
    small.save(checkpoints, 2)
    with caplog.at_level(logging.INFO):
        small.save(checkpoints, 2)
    assert "step 2 is saved already" in caplog.text
    with pytest.raises(ValueError, match="step 1 cannot be saved: step 2 of .* is newer"):
        small.save(checkpoints, 1)
    checkpoints.close()
    assert small.steps(tmp_path) == [2]


OTHER = np.zeros((4, 8), np.float32)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            dict(kept={"decoder": {"embedding": np.zeros((15, 8), np.float32)}}),
            r"mis-shaped decoder/embedding: expected \(15, 8\), got \(16, 8\)",
        ),
        (
            dict(kept=small.frozen() | {"vit": {"bias": OTHER}}),
            r"frozen parameters .*\n  missing    vit/bias \(4, 8\)",
        ),
        (dict(kept={}), r"frozen parameters .*\n  unexpected decoder/embedding \(16, 8\)"),
        (
            dict(like=small.params(0) | small.frozen(), kept={}),
            "decoder/embedding is frozen in the checkpoint and trained by config.optim.trainable",
        ),
        (
            dict(like={}, kept=small.frozen() | small.params(0)),
            "adapter/query is trained in the checkpoint and frozen by config.optim.trainable",
        ),
        (
            dict(like={"adapter": {"query": np.zeros((9, 8), np.float32)}}),
            r"mis-shaped adapter/query: expected \(9, 8\), got \(4, 8\)",
        ),
    ],
)
def test_what_does_not_fit_is_named_before_anything_is_read(tmp_path, wanted, message, monkeypatch):
    """Frozen parameters were not compared: Orbax's own words name a file, no parameter."""
    small.write(tmp_path, (1,))
    monkeypatch.setattr("qwenvl_jax.checkpoint.orbax_reader.read", None)
    with pytest.raises(ValueError, match=message):
        small.restore(tmp_path, **wanted)
    assert small.steps(tmp_path) == [1]


def test_damaged_frozen_parameters_are_made_again(tmp_path, caplog):
    """They are one copy for all steps: a flipped bit there lost every step."""
    small.write(tmp_path, (1, 2))
    (folder,) = (tmp_path / "frozen").iterdir()
    small.flip(max(folder.rglob("d/*"), key=lambda p: p.stat().st_size))
    assert "is damaged" in intact.frozen_damage(tmp_path, folder.name)
    back = small.restore(tmp_path, remake_frozen=small.frozen)
    assert back.step == 2
    want = np.asarray(small.frozen()["decoder"]["embedding"])
    np.testing.assert_array_equal(back.frozen["decoder"]["embedding"], want)
    assert small.steps(tmp_path) == [1, 2]
    assert [p.name for p in (tmp_path / "frozen-damaged").iterdir()] == [folder.name]
    assert "is damaged" in caplog.text
    assert intact.frozen_damage(tmp_path, folder.name) == ""
    again = small.restore(tmp_path, remake_frozen=None)
    np.testing.assert_array_equal(again.frozen["decoder"]["embedding"], want)


@pytest.mark.parametrize("remake", [None, lambda: small.frozen(1)])
def test_other_frozen_parameters_are_not_taken(tmp_path, remake):
    """Weights that changed at their source would train on as if they were those of the start."""
    small.write(tmp_path, (1,))
    (folder,) = (tmp_path / "frozen").iterdir()
    small.flip(max(folder.rglob("d/*"), key=lambda p: p.stat().st_size))
    given = "nothing" if remake is None else "[0-9a-f]{16}"
    message = f"config.init and config.seed give {given} in place of {folder.name}. Put a copy"
    with pytest.raises(ValueError, match=message):
        small.restore(tmp_path, remake_frozen=remake)
    assert folder.is_dir() and small.steps(tmp_path) == [1]


def test_a_fresh_start_does_not_trust_a_damaged_copy(tmp_path):
    """Another run's frozen parameters under the same name may have been damaged since."""
    small.write(tmp_path, (1,))
    (folder,) = (tmp_path / "frozen").iterdir()
    (tmp_path / "checkpoints" / "1").rename(tmp_path / "elsewhere")
    small.flip(max(folder.rglob("d/*"), key=lambda p: p.stat().st_size))
    small.write(tmp_path, (1,))
    assert intact.newest(tmp_path, verify=True) == 1


def remove(file):
    file.unlink()


def cut(file):
    file.write_bytes(file.read_bytes()[:-2])


@pytest.mark.parametrize("damage", [small.flip, remove, cut])
def test_damage_of_any_file_is_named_or_harmless(tmp_path, damage):
    """Each file of a step in turn: the older step is taken, or all is as it was saved."""
    small.write(tmp_path, (1, 2))
    where, harmless = tmp_path / "checkpoints" / "2", []
    files = [p for p in where.rglob("*") if p.is_file() and p.stat().st_size]
    assert len(files) > 8
    for file in files:
        content = file.read_bytes()
        damage(file)
        reason = intact.damage(tmp_path, 2)
        if reason:
            assert file.name in reason
            assert intact.newest_good(tmp_path) == 1
        else:
            harmless.append(file.name)
            back = small.restore(tmp_path)
            assert back.step == 2 and (np.asarray(back.params["adapter"]["query"]) == 2).all()
        file.write_bytes(content)
    assert set(harmless) <= set(manifest.STAMPS)
    assert intact.newest_good(tmp_path) == 2


@pytest.mark.parametrize("name", [".DS_Store", ".nfs0001", "data.swp", "params/._d", "meta/x.bak"])
def test_a_stray_file_is_named_and_harmless(tmp_path, name, caplog):
    """A backup tool's file made a whole step count as damaged."""
    small.write(tmp_path, (1, 2))
    for folder in ("checkpoints/2", "checkpoints", "frozen"):
        stray = tmp_path / folder / name
        stray.parent.mkdir(exist_ok=True)
        stray.write_bytes(b"not of ours")
    back = small.restore(tmp_path)
    assert back.step == 2 and (np.asarray(back.params["adapter"]["query"]) == 2).all()
    assert f"left alone: {tmp_path / 'checkpoints' / '2' / name}" in caplog.text
    assert (tmp_path / "checkpoints" / "2" / name).exists()


def test_another_vocabulary_is_refused(tmp_path):
    """Of equal size, it gives other ids for the same words, and the loss only looks a bit high."""
    vocabulary = tmp_path / "tokenizer.model"
    vocabulary.write_bytes(b"a dog")
    inputs = {"config.data.tokenizer": vocabulary}
    for step, given in ((1, {}), (2, inputs)):
        checkpoints = Checkpoints(tmp_path, CheckpointConfig(every=1), {}, inputs=given)
        small.save(checkpoints, step)
        checkpoints.close()
    moved = vocabulary.rename(tmp_path / "moved.model")  # the content counts, not the path
    assert small.restore(tmp_path, inputs={"config.data.tokenizer": moved}).step == 2
    small.flip(moved)
    message = f"config.data.tokenizer={moved} is another file than at step 2: its sha256 is "
    with pytest.raises(ValueError, match=message):
        small.restore(tmp_path, inputs={"config.data.tokenizer": moved})
    # A step from before digests were kept has none to compare with.
    assert small.restore(tmp_path, step=1, inputs={"config.data.tokenizer": moved}).step == 1
