"""Captures on demand, read back with JAX's own reader of traces."""

import os

import jax
import jax.numpy as jnp

from qwenvl_jax.train.profiles import STEPS, Profiles


def run(profiles, steps, at=0):
    """Steps that name themselves in a trace."""
    step = jax.jit(lambda x: {"loss": (x @ x).sum()})
    for number in range(at, at + steps):
        with jax.profiler.TraceAnnotation(f"number {number}"):
            metrics = step(jnp.ones((8, 8)))
        profiles.after(number, metrics)


def captured(workdir):
    """The numbers of the steps in each capture."""
    captures = []
    for path in sorted(workdir.glob("profiles/plugins/profile/*/*.xplane.pb")):
        data = jax.profiler.ProfileData.from_file(str(path))
        names = [e.name for plane in data.planes for line in plane.lines for e in line.events]
        captures.append(sorted(int(n.split()[1]) for n in names if n.startswith("number ")))
    return captures


def test_a_touch_captures_the_steps_that_follow(tmp_path):
    """A capture that began late, held a step too few or never ended would hold other steps."""
    profiles = Profiles(tmp_path)
    run(profiles, 2)
    assert not (tmp_path / "profiles").exists()
    (tmp_path / "profile").touch()
    run(profiles, STEPS + 4, at=2)
    profiles.close()
    assert captured(tmp_path) == [list(range(3, 3 + STEPS))]


def test_an_old_request_is_not_done_again(tmp_path):
    """A resumed run would be profiled at each start."""
    (tmp_path / "profile").touch()
    profiles = Profiles(tmp_path)
    run(profiles, 2)
    assert not (tmp_path / "profiles").exists()
    os.utime(tmp_path / "profile", (1e9, 1e9))
    run(profiles, 2, at=2)
    profiles.close()
    assert captured(tmp_path) == [[3]], "a run that ends early keeps what it has"
