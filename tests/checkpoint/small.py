"""A training state of three small arrays, for tests of how checkpoints are kept."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from qwenvl_jax.checkpoint.manager import Checkpoints, Restored
from qwenvl_jax.checkpoint.policy import CheckpointConfig

RUN_CONFIG = {"seed": 0, "model": {"vit": {"layers": 2}}, "optim": {"steps": 9}}


def params(step: int) -> dict:
    return {"adapter": {"query": np.full((4, 8), step, np.float32)}}


def frozen(seed: int = 0) -> dict:
    values = np.random.default_rng(seed).standard_normal((16, 8)).astype(np.float32)
    return {"decoder": {"embedding": jax.device_put(values)}}


OPT_STATE = {"steps": np.zeros((), np.int32)}
DATA = np.arange(6, dtype=np.int64).reshape(2, 3)


def opened(root: Path, **config: Any) -> Checkpoints:
    return Checkpoints(root, CheckpointConfig(**({"every": 1} | config)), RUN_CONFIG)


def save(checkpoints: Checkpoints, step: int, *, extra: dict | None = None) -> None:
    checkpoints.save(
        step,
        params=params(step),
        opt_state=OPT_STATE,
        frozen=frozen(),
        data=DATA + step,
        extra=extra,
    )


def write(root: Path, steps: Any, **config: Any) -> None:
    """A work directory with these steps, saved one after the other."""
    checkpoints = opened(root, **config)
    for step in steps:
        save(checkpoints, step)
    checkpoints.close()


def shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def restore(
    root: Path,
    *,
    like: dict | None = None,
    kept: dict | None = None,
    inputs: dict | None = None,
    **more: Any,
) -> Restored:
    """Restore into the trees of this file, or into others.

    Args:
      like, kept: the trained and the frozen parameters that are asked for.
      inputs: as for `Checkpoints`.
    """
    wanted = dict(
        params=shapes(params(0) if like is None else like),
        opt_state=shapes(OPT_STATE),
        frozen=shapes(frozen() if kept is None else kept),
    )
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shardings = tuple(jax.tree.map(lambda _: here, tree) for tree in wanted.values())
    config = CheckpointConfig(every=1)
    checkpoints = Checkpoints(root, config, RUN_CONFIG, inputs=inputs or {})
    try:
        return checkpoints.restore(**wanted, shardings=shardings, **more)
    finally:
        checkpoints.close()


def steps(root: Path) -> list[int]:
    return sorted(int(p.name) for p in (root / "checkpoints").iterdir() if p.name.isdigit())


def flip(file: Path, place: int | None = None) -> None:
    """Change one bit, in the middle where nothing is said."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 16
    file.write_bytes(bytes(content))
