"""What a step needs by sizes alone, in a moment: the compiler's minutes go to the best of these.

All but FLOPs is rough: beside the compiled rows of docs/scale.md bytes of a chip are 8 % below to
22 % above (on GPUs 32 % below to 4 % above), seconds 40 % below to 60 % above, in stage 3 up to 3.1
times as many for the memory; a step of GPUs is 4 % below to 14 % above. Which of two candidates is
the better one is what counts here, and the compiled program has the last word.
"""

import dataclasses
import math
from typing import NamedTuple

from launch.plan.analytic import Kernel, hardware_flops
from launch.plan.chips import Chip
from qwenvl_jax import trees
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.parallel import rules
from qwenvl_jax.train.config import TrainConfig

# Of the memory's seconds, those in kernels that it bounds: beside the compiled GPU rows of
# docs/scale.md 0.37 to 0.43.
BOUND_BY_MEMORY = 0.42


class Candidate(NamedTuple):
    data: int
    fsdp: int
    tensor: int
    accumulation: int
    remat: str

    @property
    def name(self) -> str:
        mesh = f"{self.data}x{self.fsdp}x{self.tensor}"
        return f"{mesh}_{self.accumulation}_{self.remat}"

    @property
    def overrides(self) -> dict[str, int | str]:
        """Config keys -> values."""
        mesh = {f"mesh.{axis}": getattr(self, axis) for axis in ("data", "fsdp", "tensor")}
        return mesh | {"optim.accumulation": self.accumulation, "model.remat": self.remat}


class Batch(NamedTuple):
    """Sizes of a global batch."""

    rows: int
    length: int
    images: int
    unit: int  # rows that must stay in one microbatch of one device
    turns: int  # divides the number of microbatches
    labelled: float  # tokens with a loss


class Estimate(NamedTuple):
    """Of a chip: bytes at the step's height, and seconds at each peak alone."""

    hbm: float
    compute: float
    memory: float
    links: float
    sums: float = 0.0  # of the links, those over `tensor`
    network: float = 0.0  # between TPU slices
    serial: bool = False  # kernels one after the other, as on GPUs

    @property
    def seconds(self) -> float:
        if not self.serial:
            return max(self.compute, self.memory, self.links, self.network)
        kernels = self.compute + BOUND_BY_MEMORY * self.memory
        # The next product needs a sum over `tensor`; weights are waited for the more, the less
        # there is to do meanwhile.
        weights = self.links - self.sums
        return kernels + self.sums + weights * weights / (weights + kernels)

    @property
    def rank(self) -> float:
        """Less is better: what hides behind the slowest counts a little too."""
        if self.serial:
            return self.seconds
        return self.seconds + 0.1 * (self.compute + self.memory + self.links + self.network)


def candidates(
    shapes: trees.Tree, config: TrainConfig, batch: Batch, chips: int, slices: int = 1
) -> list[Candidate]:
    """Every mesh, number of microbatches and remat policy whose sizes divide.

    Args:
      shapes: all parameters.
      slices: of TPUs, which are parts of `data`.
    """
    found = []
    for tensor in (t for t in (1, 2, 4, 8) if _heads_divide(config, t)):
        for fsdp in _divisors(chips // tensor) if chips % tensor == 0 else []:
            mesh = {"data": chips // tensor // fsdp, "fsdp": fsdp, "tensor": tensor}
            micro, rest = divmod(batch.rows, batch.unit * mesh["data"] * fsdp)
            if rest or mesh["data"] % slices or not _weights_divide(shapes, mesh):
                continue
            found += [
                Candidate(*mesh.values(), accumulation, remat)
                for accumulation in _divisors(micro)
                if accumulation % batch.turns == 0
                for remat in ("none", "dots", "full")
            ]
    return found


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _heads_divide(config: TrainConfig, tensor: int) -> bool:
    towers = (config.model.vit, config.model.adapter, config.model.decoder)
    return all(tower.heads % tensor == 0 for tower in towers)


def _weights_divide(shapes: trees.Tree, mesh: dict[str, int]) -> bool:
    return all(
        axis is None or size % mesh[axis] == 0
        for path, leaf in trees.flatten(shapes).items()
        for size, axis in zip(leaf.shape, rules.spec_of(path), strict=True)
    )


def estimate(
    candidate: Candidate,
    *,
    config: TrainConfig,
    shapes: trees.Tree,
    batch: Batch,
    chip: Chip,
    kernel: Kernel,
    slices: int = 1,
) -> Estimate:
    """The candidate on one chip of many."""
    mesh = {axis: getattr(candidate, axis) for axis in ("data", "fsdp", "tensor")}
    ways = candidate.data * candidate.fsdp
    part = 1 / (ways * candidate.accumulation)  # of the batch: a device's microbatch
    flat = trees.flatten(shapes)
    trained = [path for path in flat if config.optim.is_trainable(path)]
    towers = {path.split("/")[0] for path in trained}
    passes = _passes(towers)
    chunk = config.loss_chunk
    rounds = math.ceil(batch.labelled * part / chunk)
    model = dataclasses.replace(config.model, remat=candidate.remat)
    flops = hardware_flops(
        model,
        towers,
        rows=batch.rows,
        length=batch.length,
        images=batch.images,
        head_positions=rounds * chunk / part,
        kernel=kernel,
    )
    held = {path: _held(path, leaf.shape, mesh) for path, leaf in flat.items()}
    learnt = sum(held[path] for path in trained)
    whole = {path: 2 * candidate.fsdp * count for path, count in held.items()}  # bytes, gathered
    ways_through = {tower: min(count, 2) for tower, count in passes.items()}  # forth, and back
    gathered = sum(size * ways_through[path.split("/")[0]] for path, size in whole.items())
    head = model.decoder.width * model.decoder.vocab_size / candidate.tensor
    kept, layer, summed, worked_on = _activations(model, batch, part, candidate.tensor, passes)
    hbm = 16 * learnt + 2 * (sum(held.values()) - learnt)  # weights, moments, gradients
    hbm += kept + 4 * layer + 2 * sum(whole.values()) / model.decoder.layers
    hbm += head * (2 + 4 * ("decoder" in towers) + 6 * chunk / model.decoder.width)
    traffic = candidate.accumulation * (2 * gathered + 16 * learnt + 5.2 * worked_on)
    split = (candidate.fsdp - 1) / candidate.fsdp
    sent = split * (gathered + 4 * candidate.fsdp * learnt)  # gradients in bfloat16, all of them
    sent += 8 * learnt * (candidate.data > 1)
    added = 2 * summed * (1 - 1 / candidate.tensor)
    chips = ways * candidate.tensor
    return Estimate(
        hbm=hbm,
        compute=flops / chips / chip.flops,
        memory=traffic / chip.hbm_rate,
        links=candidate.accumulation * (sent + added) / chip.link_rate,
        sums=candidate.accumulation * added / chip.link_rate,
        network=candidate.accumulation * 4 * learnt * (1 - 1 / slices) / chip.network_rate,
        serial=kernel == "cudnn",
    )


def _held(path: str, shape: tuple[int, ...], mesh: dict[str, int]) -> float:
    """Elements of a parameter that a device holds."""
    ways = math.prod(mesh[axis] for axis in rules.spec_of(path) if axis is not None)
    return math.prod(shape) / ways


def _passes(towers: set[str]) -> dict[str, int]:
    """Tower -> 1 where nothing in it or below it is trained, 2 where a gradient goes through it, 3
    where its own weights have one too.
    """
    found, below = {}, False
    for tower in ("vit", "adapter", "decoder"):
        below = below or tower in towers
        found[tower] = 1 + below + (tower in towers)
    return found


def _activations(
    model: ModelConfig, batch: Batch, part: float, tensor: int, passes: dict[str, int]
) -> tuple[float, ...]:
    """Bytes of a device in a microbatch: what is kept for the backward pass, the largest layer,
    what is added up over `tensor`, and what products with weights come to in all passes.
    """
    vit, decoder = model.vit, model.decoder
    patches = batch.images * part * (vit.image_size // vit.patch_size) ** 2
    tokens = batch.rows * batch.length * part
    kept = layer = summed = worked_on = 0.0
    for name, tower, count, wide in (("vit", vit, patches, 1), ("decoder", decoder, tokens, 2)):
        products = 4 * tower.width + wide * tower.mlp_width
        one = 2 * count * (2 * tower.width + products / tensor)
        inputs = 2 * count * tower.width * tower.layers
        back = passes[name] > 1
        share = {"none": 2.5, "dots": 1.0}.get(model.remat)
        kept += back * (inputs if share is None else share * one * tower.layers)
        layer = max(layer, one)
        summed += 2 * inputs * (1 + back)
        worked_on += one * tower.layers * passes[name]
    return kept, layer, summed, worked_on
