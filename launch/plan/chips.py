"""TPU chips and the topologies that are made of them, as their vendor states them."""

import os
import re
from typing import Any, NamedTuple


class Chip(NamedTuple):
    flops: float  # dense bf16, a second
    hbm: int  # bytes that a program may use
    hbm_rate: float  # bytes a second
    ici_rate: float  # bytes a second that leave a chip, over all its links together


_GIB = 2**30
CHIPS = {
    "v4": Chip(275e12, 32 * _GIB, 1.2e12, 300e9),
    "v5e": Chip(197e12, 16 * _GIB, 0.82e12, 200e9),
    "v5p": Chip(459e12, 95 * _GIB, 2.765e12, 600e9),
    "v6e": Chip(918e12, 32 * _GIB, 1.64e12, 448e9),
}
# How a v4's two cores are seen as one device, as JAX on a real one sees them; the others are so.
_AS_ONE = {"v4": {"chip_config_name": "megacore"}}
# What libtpu wants to be told where no TPU is there to ask.
_ACCELERATORS = {"v4": "v4-8", "v5e": "v5litepod-8", "v5p": "v5p-8", "v6e": "v6e-8"}


class Topology(NamedTuple):
    name: str
    chip: Chip
    devices: list[Any]


def get_topology(name: str, *, slices: int = 1) -> Topology:
    """`v5e:16x16` -> its devices, none of which is there; needs libtpu (the extra `tpu`).

    Raises:
      ValueError: no such chip or shape (names the nearest shapes), or libtpu is not installed.
    """
    family, _, shape = name.partition(":")
    if family not in CHIPS or not re.fullmatch(r"\d+(x\d+){1,2}", shape):
        raise ValueError(
            f"--topology={name}: expected CHIP:SHAPE, for example v5e:16x16 or v5p:4x4x4; chips are"
            f" {', '.join(CHIPS)}"
        )
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
    return Topology(name, CHIPS[family], list(topology.devices))


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
