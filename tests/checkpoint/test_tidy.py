"""What a work directory keeps over a run, and that no failure deletes what is good."""

import json
import threading

import pytest

from qwenvl_jax.checkpoint import intact, manifest
from qwenvl_jax.checkpoint.policy import CheckpointConfig
from qwenvl_jax.checkpoint.tidy import DELETING, NAME, Tidy
from tests.checkpoint import small


def test_a_run_keeps_newest_and_for_good_and_best(tmp_path):
    """Through Orbax: what is on disk after each save, of losses that are told after it."""
    losses = {1: 5.0, 2: 2.0, 3: 4.0, 4: 3.0, 5: 3.5, 6: 1.0, 7: 2.5, 8: 9.0}
    want = {
        4: [2, 3, 4],
        5: [2, 4, 5],  # 4 for good
        6: [2, 4, 5, 6],  # 6 is not scored yet
        7: [4, 6, 7],
        8: [4, 6, 7, 8],
    }
    checkpoints = small.opened(tmp_path, keep=2, keep_every=4)
    for step, loss in losses.items():
        small.save(checkpoints, step)
        checkpoints._wait()
        if step in want:
            assert small.steps(tmp_path) == want[step]
        checkpoints.scored(step, loss)
    checkpoints.close()
    assert small.steps(tmp_path) == [4, 6, 7, 8]
    assert not (tmp_path / DELETING).exists() or not list((tmp_path / DELETING).iterdir())


def test_the_best_outlives_a_resume(tmp_path):
    """Forgotten losses would let the best step go; those of steps that are redone would count
    twice.
    """
    checkpoints = small.opened(tmp_path, keep=2)
    for step in (1, 2, 3, 4):
        small.save(checkpoints, step)
        checkpoints.scored(step, {1: 0.5, 4: 0.1}.get(step, 1.0))
    checkpoints.close()
    assert small.steps(tmp_path) == [3, 4]  # 4 is the best and the newest
    small.restore(tmp_path, step=3)
    assert json.loads((tmp_path / NAME).read_text())["losses"] == {"3": 1.0}
    checkpoints = small.opened(tmp_path, keep=1)
    for step in (4, 5):
        small.save(checkpoints, step)
        checkpoints.scored(step, 2.0)
    checkpoints.close()
    assert small.steps(tmp_path) == [3, 5]


def folder(root, step, loss=None):
    """A step as far as deleting is concerned: a folder with a manifest."""
    where = root / "checkpoints" / str(step)
    where.mkdir(parents=True)
    (where / "data").write_bytes(bytes([step]) * 100)
    manifest.write(where)
    return where / "data"


def test_nothing_is_deleted_for_a_newer_step_that_is_damaged(tmp_path, caplog):
    """Orbax deletes the oldest as soon as a new step has its name: with a disk that loses bytes, no
    good step is left.
    """
    for step in (1, 2):
        folder(tmp_path, step)
    small.flip(folder(tmp_path, 3))
    tidy = Tidy(tmp_path, CheckpointConfig(every=1, keep=2))
    tidy.prune()
    assert small.steps(tmp_path) == [1, 2, 3]
    assert "step 3 is damaged" in caplog.text and "data is damaged: its sha256" in caplog.text
    folder(tmp_path, 4)  # intact: now 1 may go, as 2 and 4 are the newest that are good
    tidy.prune()
    assert small.steps(tmp_path) == [2, 3, 4]


def test_a_damaged_best_step_gives_way_to_the_next_best(tmp_path, caplog):
    """Otherwise the only step kept for its loss is one that nobody can read."""
    files = {step: folder(tmp_path, step) for step in range(1, 6)}
    tidy = Tidy(tmp_path, CheckpointConfig(every=1, keep=1))
    for step in files:
        tidy.scored(step, {2: 0.1, 3: 0.2}.get(step, 1.0))
    small.flip(files[2])
    tidy.prune()
    assert small.steps(tmp_path) == [2, 3, 5]  # what is damaged is not deleted either
    assert "step 2 is damaged" in caplog.text


def test_losses_that_cannot_be_read_spare_every_step(tmp_path, caplog):
    """One of them is the best. The file itself is kept for whoever can read it."""
    for step in (1, 2, 3):
        folder(tmp_path, step)
    (tmp_path / NAME).write_text('{"losses": {"1": 0.')
    config = CheckpointConfig(every=1, keep=1)
    Tidy(tmp_path, config).prune()
    assert "these stay: [1, 2, 3]" in caplog.text
    assert (tmp_path / "checkpoints-damaged" / NAME).exists()
    for step in (4, 5):
        folder(tmp_path, step)
        tidy = Tidy(tmp_path, config)  # as after a restart
        tidy.scored(step, 1.0)
        tidy.prune()
    assert small.steps(tmp_path) == [1, 2, 3, 5]


def test_a_killed_deletion_leaves_no_step(tmp_path):
    """Half of a step under its own name would be taken for damage at the next start."""
    folder(tmp_path, 1)
    (tmp_path / DELETING / "0").mkdir(parents=True)
    Tidy(tmp_path, CheckpointConfig(every=1))
    assert not (tmp_path / DELETING).exists()
    assert intact.newest_good(tmp_path) == 1


@pytest.mark.parametrize("part", ["set_aside", "damage"])
def test_a_disk_that_fails_then_does_not_end_the_run(tmp_path, caplog, monkeypatch, part):
    """Steps that could not be compared or deleted cost space, and the next save tries again."""
    for step in (1, 2):
        folder(tmp_path, step)
    tidy = Tidy(tmp_path, CheckpointConfig(every=1, keep=1))

    def refuse(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(intact, part, refuse)
        tidy.prune()
    assert "old steps could not be deleted: [Errno 5] Input/output error" in caplog.text
    assert small.steps(tmp_path) == [1, 2]
    tidy.prune()
    assert small.steps(tmp_path) == [2]


def test_a_loss_is_noted_while_files_are_compared(tmp_path, monkeypatch):
    """Comparing takes minutes at full size; the training thread must not wait for it."""
    for step in (1, 2):
        folder(tmp_path, step)
    tidy = Tidy(tmp_path, CheckpointConfig(every=1, keep=1))
    begun, go_on = threading.Event(), threading.Event()

    def slow(*_):
        begun.set()
        assert go_on.wait(60)
        return ""

    monkeypatch.setattr(intact, "damage", slow)
    thread = threading.Thread(target=tidy.prune)
    thread.start()
    assert begun.wait(60)
    noted = threading.Thread(target=tidy.scored, args=(2, 1.0))
    noted.start()
    noted.join(60)
    waited = noted.is_alive()
    go_on.set()
    thread.join()
    assert not waited
    assert small.steps(tmp_path) == [2]


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_is_never_the_best(tmp_path, loss, caplog):
    """-inf and NaN sort before or beside everything."""
    for step in (1, 2, 3):
        folder(tmp_path, step)
    tidy = Tidy(tmp_path, CheckpointConfig(every=1, keep=1))
    tidy.scored(1, loss)
    tidy.scored(2, 3.0)
    tidy.prune()
    assert small.steps(tmp_path) == [2, 3]
    assert "so it is not the best" in caplog.text
