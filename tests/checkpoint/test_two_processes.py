"""A work directory of a job of two processes: one deletes and mends, both see the same steps."""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.experimental.multihost_utils
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from launch import hosts
from qwenvl_jax.checkpoint.manager import Checkpoints
from qwenvl_jax.checkpoint.policy import CheckpointConfig
from tests.checkpoint import small
from tests.processes import run_job


def sharded(tree: Any) -> tuple[Any, Any]:
    """The tree's rows over all devices of both processes, and where they are."""
    mesh = Mesh(np.array(jax.devices()), ("all",))
    rows = PartitionSpec("all")
    where = jax.tree.map(lambda x: NamedSharding(mesh, rows if x.ndim else PartitionSpec()), tree)

    def place(x, s):
        return jax.make_array_from_callback(x.shape, s, lambda index: np.asarray(x)[index])

    return jax.tree.map(place, tree, where), where


def one_process(folder: Path) -> None:
    """What each of the two does."""
    hosts.join()
    assert jax.process_count() == 2
    mine = np.full_like(small.DATA, -1)
    mine[jax.process_index()] = small.DATA[jax.process_index()]  # a virtual shard each

    def opened() -> Checkpoints:
        return Checkpoints(folder, CheckpointConfig(every=1, keep=2), small.RUN_CONFIG)

    def state(step: int):
        return sharded((small.params(step), small.OPT_STATE, small.frozen()))

    def save(checkpoints: Checkpoints, step: int) -> None:
        params, moments, frozen = state(step)[0]
        checkpoints.save(step, params=params, opt_state=moments, frozen=frozen, data=mine)
        checkpoints.check()
        checkpoints.scored(step, {1: 1.0}.get(step, 5.0))

    def restore(step: int | None):
        given, where = state(0)
        params, moments, frozen = map(small.shapes, given)
        checkpoints = opened()
        back = checkpoints.restore(
            params=params,
            opt_state=moments,
            frozen=frozen,
            shardings=where,
            step=step,
            remake_frozen=lambda: state(0)[0][2],
        )
        assert (back.data == small.DATA).all()
        for shard in back.params["adapter"]["query"].addressable_shards:
            assert (np.asarray(shard.data) == back.step).all()
        return back.step, checkpoints

    checkpoints = opened()
    for step in range(1, 6):
        save(checkpoints, step)
    checkpoints.close()
    if jax.process_index() == 0:  # the one that deletes
        assert small.steps(folder) == [1, 4, 5]
        (kept,) = (folder / "frozen").iterdir()
        small.flip(max(kept.rglob("d/*"), key=lambda p: p.stat().st_size))
        small.flip(folder / "checkpoints" / "5" / "meta" / "metadata")
    jax.experimental.multihost_utils.sync_global_devices("damaged")
    step, checkpoints = restore(None)
    assert step == 4
    save(checkpoints, 5)
    save(checkpoints, 6)
    checkpoints.close()
    step, checkpoints = restore(5)
    assert step == 5
    save(checkpoints, 6)
    checkpoints.close()


def test_two_processes_agree_on_what_stays(tmp_path):
    """A step that one process deletes or moves while the other still counts it hangs the job."""
    code = f"from {__name__} import *; one_process(Path({str(tmp_path)!r}))"
    run_job([sys.executable, "-c", code], devices=2, timeout=120)
    assert small.steps(tmp_path) == [1, 5, 6]
    aside, damaged = tmp_path / "checkpoints-set-aside", tmp_path / "checkpoints-damaged"
    assert [p.name for p in aside.iterdir()] == ["6"]
    assert [p.name for p in damaged.iterdir()] == ["5"]
    assert len(list((tmp_path / "frozen-damaged").iterdir())) == 1
