"""The device mesh: axes (data, fsdp, tensor).

data    replicates parameters, splits the batch
fsdp    splits parameters and the batch
tensor  splits heads and MLP width inside a layer
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

AXES = ("data", "fsdp", "tensor")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis; -1 on one axis takes what is left."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def sizes(self, num_devices: int) -> tuple[int, int, int]:
        """The three sizes for a number of devices.

        Raises:
          ValueError: the sizes do not multiply to the number of devices.
        """
        sizes = [self.data, self.fsdp, self.tensor]
        for name, size in zip(AXES, sizes, strict=True):
            if size < 1 and size != -1:
                raise ValueError(f"config.mesh.{name} is {size}; it must be positive or -1")
        if sizes.count(-1) > 1:
            raise ValueError(f"config.mesh: only one axis may be -1, got {dict(zip(AXES, sizes))}")
        fixed = int(np.prod([size for size in sizes if size != -1]))
        filled = [num_devices // fixed if size == -1 else size for size in sizes]
        if int(np.prod(filled)) != num_devices:
            raise ValueError(
                f"config.mesh {dict(zip(AXES, sizes))} needs a multiple of {fixed} devices"
                f" (exactly {fixed} without a -1), but there are {num_devices}; each size must"
                f" divide that: {[n for n in range(1, num_devices + 1) if num_devices % n == 0]}"
            )
        return tuple(filled)


def make_mesh(config: MeshConfig, devices=None) -> Mesh:
    """Build the mesh with axes of type Auto (the default Explicit would change every operation's
    typing). An axis may span a part of a torus dim: 2 x 128 on 4 x 8 x 8 chips is a mesh.
    """
    devices = jax.devices() if devices is None else devices
    placed = place(config.sizes(len(devices)), devices)
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * 3)


def place(sizes: tuple[int, int, int], devices: Sequence[Any]) -> np.ndarray:
    """Devices as an array of these sizes, neighbours along an axis near each other. TPU slices are
    parts of `data`: the network between them carries a step's gradients and nothing else.

    Raises:
      ValueError: `data` is no multiple of the number of slices.
    """
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if devices[0].platform == "gpu":  # hosts call themselves slices there; fsdp may go over them
        slices = 1
    data, *inside = sizes
    if data % slices:
        raise ValueError(
            f"config.mesh.data={data} is no multiple of the {slices} slices, which it goes over;"
            f" nearest: {sorted({max(data // slices, 1) * slices, (data // slices + 1) * slices})}"
        )
    if slices == 1:
        return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    return mesh_utils.create_hybrid_device_mesh(
        (data // slices, *inside), (slices, 1, 1), devices, allow_split_physical_axes=True
    )
