"""TPUs that are not there, by libtpu."""

import os
from typing import Any

# How a v4's two cores are seen as one device, as JAX on a real one sees them; the others are so.
_AS_ONE = {"v4": {"chip_config_name": "megacore"}}
# What libtpu wants to be told where no TPU is there to ask.
_ACCELERATORS = {"v4": "v4-8", "v5e": "v5litepod-8", "v5p": "v5p-8", "v6e": "v6e-8"}


def devices(name: str, *, slices: int) -> list[Any]:
    """Those of `v5e:16x16`; needs libtpu (the extra `tpu`).

    Raises:
      ValueError: no such shape (names the nearest), or libtpu is not installed.
    """
    family = name.partition(":")[0]
    _check_shape(name)
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", _ACCELERATORS[family])
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no chip to be kept to one process
    from jax.experimental import topologies  # reads the environment

    sizes = {"num_slices": slices} if slices > 1 else {}
    try:
        topology = topologies.get_topology_desc(
            name, platform="tpu", **sizes, **_AS_ONE.get(family, {})
        )
    except Exception as error:  # jax raises whatever libtpu does
        raise ValueError(
            f"--topology={name}: {str(error).splitlines()[0]} (libtpu comes with the extra `tpu`)"
        ) from error
    return list(topology.devices)


def _check_shape(name: str) -> None:
    """A host has 2 x 2 chips, so the first two sizes are even; v5e and v6e are flat, the others
    have three sizes.
    """
    family, _, shape = name.partition(":")
    sizes = [int(size) for size in shape.split("x")]
    wanted = 2 if family in ("v5e", "v6e") else 3
    flat = (sizes + [1])[:wanted]
    near = []
    for step in (0, 1):
        even = [max(2, size // 2 * 2 + 2 * step * (size % 2)) for size in flat[:2]]
        near.append(f"{family}:{'x'.join(map(str, even + [max(1, n) for n in flat[2:]]))}")
    if name not in near:
        raise ValueError(
            f"--topology={name}: {family} comes in {wanted} sizes, the first two of them even"
            f" (a host has 2 x 2 chips); nearest: {', '.join(sorted(set(near)))}"
        )
