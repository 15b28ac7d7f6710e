"""Chips, as their vendors state them, and the topologies that are made of them."""

import re
from typing import Any, NamedTuple

from launch.plan import gpus, tpus


class Chip(NamedTuple):
    flops: float  # dense bf16, a second
    hbm: int  # bytes that a program may use
    hbm_rate: float  # bytes a second
    link_rate: float  # bytes a second that leave a chip, over all its links together
    network_rate: float  # a chip's share of what goes to other hosts, of a TPU to other slices


_GIB = 2**30
CHIPS = {
    # Google states no network for v4: what PaLM's two pods reached, 81 Tbit/s of 6,144 chips.
    "v4": Chip(275e12, 32 * _GIB, 1.2e12, 300e9, 1.65e9),
    "v5e": Chip(197e12, 16 * _GIB, 0.82e12, 200e9, 3.125e9),  # 6.4 Tbit/s of a pod's 256
    "v5p": Chip(459e12, 95 * _GIB, 2.765e12, 600e9, 6.25e9),
    "v6e": Chip(918e12, 32 * _GIB, 1.64e12, 448e9, 12.5e9),  # 25.6 Tbit/s of a pod's 256
    # SXM, with a network port of 400 Gbit/s each.
    "h100": Chip(989.4e12, 84_942_979_072, 3.352e12, 450e9, 50e9),
    "h200": Chip(989.4e12, 151_397_597_184, 4.8e12, 450e9, 50e9),
}


class Topology(NamedTuple):
    name: str
    chip: Chip
    devices: list[Any]
    linked: int  # neighbours that are joined by links: the GPUs of a host, the TPUs of a slice

    @property
    def platform(self) -> str:
        return "gpu" if self.name.partition(":")[0] in gpus.NAMES else "tpu"

    @property
    def slices(self) -> int:
        """Of TPUs; hosts of GPUs are none, since `fsdp` may go over them."""
        return len(self.devices) // self.linked if self.platform == "tpu" else 1

    def crosses(self, group: tuple[int, ...]) -> bool:
        """Whether a collective's devices, by their ids, need the network."""
        return len({member // self.linked for member in group}) > 1

    def rate(self, group: tuple[int, ...]) -> float:
        """Bytes a second at which a device of a collective sends.

        Rings over hosts leave each by all ports of those that take part, so that many members a
        host share what goes out.
        """
        if not self.crosses(group):
            return self.chip.link_rate
        here = sum(member // self.linked == group[0] // self.linked for member in group)
        return min(self.chip.link_rate, here * self.chip.network_rate)


def get_topology(name: str, *, slices: int = 1) -> Topology:
    """`v5e:16x16`, `h100:8` or `h100:4x8` (hosts x GPUs) -> its devices, none of which is there.

    Raises:
      ValueError: no such chip or shape (names the nearest shapes), or its compiler is not
      installed (says which extra has it).
    """
    family, _, shape = name.partition(":")
    wanted = r"\d+(x\d+)?" if family in gpus.NAMES else r"\d+(x\d+){1,2}"
    if family not in CHIPS or not re.fullmatch(wanted, shape):
        raise ValueError(
            f"--topology={name}: expected CHIP:SHAPE, for example v5e:16x16, v5p:4x4x4, h100:8 or"
            f" h100:4x8 (hosts x GPUs); chips are {', '.join(CHIPS)}"
        )
    if family not in gpus.NAMES:
        found = tpus.devices(name, slices=slices)
        return Topology(name, CHIPS[family], found, len(found) // slices)
    if slices > 1:
        raise ValueError(f"--slices={slices}: GPUs have hosts, {family}:{slices}x{shape}")
    hosts, per_host = map(int, shape.split("x")) if "x" in shape else (1, int(shape))
    chip = CHIPS[family]
    found = gpus.devices(name, hosts, per_host, memory=chip.hbm, rate=chip.hbm_rate)
    return Topology(name, chip, found, per_host)
