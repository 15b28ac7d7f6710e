"""A run that stands still says so; without, a hung job costs its chips until someone looks."""

import time

from qwenvl_jax.train import events, watch
from qwenvl_jax.train.events import Events


def test_a_run_that_stands_still_leaves_the_stacks_and_an_event(tmp_path, monkeypatch):
    """Once for each stop, and not while steps go on at their own pace."""
    monkeypatch.setattr(watch, "BEAT", 0.02)
    monkeypatch.setattr(watch, "LEAST", 0.5)
    with watch.Watch(tmp_path, Events(tmp_path)) as watched:
        for step in range(5):
            watched.step(step)
            time.sleep(0.02)
        assert not (tmp_path / "stalls").exists()
        end = time.monotonic() + 30
        while not events.read(tmp_path) and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.2)
        watched.step(5)
    (event,) = events.read(tmp_path)
    assert (event["event"], event["step"]) == ("stalled", 4)
    (stacks,) = (tmp_path / "stalls").iterdir()
    assert "test_a_run_that_stands_still" in stacks.read_text()


def test_a_run_that_hangs_in_its_first_step_says_so(tmp_path, monkeypatch):
    """Before two steps are done there is no median; the least limit holds alone."""
    monkeypatch.setattr(watch, "BEAT", 0.02)
    monkeypatch.setattr(watch, "LEAST", 0.2)
    with watch.Watch(tmp_path, Events(tmp_path)):
        end = time.monotonic() + 30
        while not events.read(tmp_path) and time.monotonic() < end:
            time.sleep(0.05)
    (event,) = events.read(tmp_path)
    assert (event["event"], event["step"]) == ("stalled", -1)
