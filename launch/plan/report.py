"""The plan of a stage: what bounds a step, whether it fits, what the stage costs."""

import dataclasses
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from launch.plan.chips import Topology
from launch.plan.collectives import Collective, by_kind_and_axis
from launch.plan.serial import Serial

FITS = 0.9  # of a chip's memory: the rest is for what the compiler does not count


@dataclasses.dataclass(frozen=True)
class Plan:
    """A compiled step; bytes, FLOPs and seconds are a chip's."""

    topology: str
    chips: int
    mesh: dict[str, int]
    remat: str
    accumulation: int
    hbm_by_kind: dict[str, int]
    hbm_bytes: int
    hbm_limit_bytes: int
    flops_hardware: float  # counted in the compiled program
    flops_analytic: float  # the same by the model's sizes
    flops_ideal: float
    collective_bytes: dict[str, dict[str, float]]  # kind -> mesh axes -> bytes
    hbm_traffic_bytes: float
    compute_seconds: float
    hbm_seconds: float
    link_seconds: float
    network_seconds: float  # of collectives over GPU hosts or TPU slices
    kernel_seconds: float | None  # of a GPU: one after the other, each at its own bound
    wait_seconds: float | None  # of a GPU: for links, what its kernels do not cover
    step_seconds: float
    bound: str
    mfu: float  # ideal FLOPs of a step over what the chip could do meanwhile
    images_per_second: float  # of a chip, every slot filled
    stage_days: float
    stage_chip_hours: float

    @property
    def fits(self) -> bool:
        return self.hbm_bytes <= FITS * self.hbm_limit_bytes


def make_plan(
    topology: Topology,
    *,
    memory: dict[str, int],
    hardware: float,
    analytic: float,
    ideal: float,
    traffic: float,
    found: list[Collective],
    serial: Serial | None = None,
    images: int,
    steps: int,
    **about: Any,
) -> Plan:
    """Roofline: compute, memory, links and the network each at their peak and all at once, so the
    step takes as long as the slowest; on GPUs kernels take turns, and the program says what of
    collectives they cover. A real step takes longer.

    Args:
      hardware, traffic, found, serial: of a chip.
      analytic, ideal, images: of all chips together.
    """
    chip, chips = topology.chip, len(topology.devices)
    bounds = {
        "compute": hardware / chip.flops,
        "memory": traffic / chip.hbm_rate,
        "links": 0.0,
        "network": 0.0,
    }
    for one in found:
        way = "network" if topology.crosses(one.group) else "links"
        bounds[way] += one.sent / topology.rate(one.group)
    bound = max(bounds, key=bounds.get)
    seconds = serial.seconds if serial else bounds[bound]
    return Plan(
        topology=topology.name,
        chips=chips,
        hbm_by_kind=memory,
        hbm_bytes=sum(memory.values()),
        hbm_limit_bytes=chip.hbm,
        flops_hardware=hardware,
        flops_analytic=analytic / chips,
        flops_ideal=ideal / chips,
        collective_bytes=by_kind_and_axis(found),
        hbm_traffic_bytes=traffic,
        compute_seconds=bounds["compute"],
        hbm_seconds=bounds["memory"],
        link_seconds=bounds["links"],
        network_seconds=bounds["network"],
        kernel_seconds=serial and serial.kernels,
        wait_seconds=serial and serial.waits,
        step_seconds=seconds,
        bound=bound,
        mfu=ideal / chips / chip.flops / seconds,
        images_per_second=images / chips / seconds,
        stage_days=steps * seconds / 86_400,
        stage_chip_hours=steps * seconds * chips / 3600,
        **about,
    )


def text(plan: Plan) -> str:
    """The plan as a page of text."""
    gib = 2**30
    share = plan.hbm_bytes / plan.hbm_limit_bytes
    verdict = "fits" if plan.fits else f"DOES NOT FIT within {FITS:.0%}"
    lines = [
        f"{plan.topology}, {plan.chips} chips, mesh {plan.mesh}, remat {plan.remat},"
        f" {plan.accumulation} microbatches",
        "",
        f"memory a chip  {plan.hbm_bytes / gib:.2f} of {plan.hbm_limit_bytes / gib:.0f} GiB"
        f" ({share:.0%}): {verdict}",
        *(f"  {kind:<18} {size / gib:7.2f} GiB" for kind, size in plan.hbm_by_kind.items()),
        "",
        f"matmuls a chip  {plan.flops_hardware / 1e12:,.1f} TFLOP in the program,"
        f" {plan.flops_analytic / 1e12:,.1f} by the model's sizes,"
        f" {plan.flops_ideal / 1e12:,.1f} ideal"
        f" (x {plan.flops_hardware / plan.flops_ideal:.2f})",
        f"memory traffic  {plan.hbm_traffic_bytes / 1e9:,.0f} GB",
        "collectives, sent by a chip",
        *(
            f"  {kind:<18} over {axes:<16} {size / 1e9:8.2f} GB"
            for kind, table in plan.collective_bytes.items()
            for axes, size in table.items()
        ),
        "",
        f"a step takes at least {plan.step_seconds:.2f} s, bound by {plan.bound}"
        f" (compute {plan.compute_seconds:.2f}, memory {plan.hbm_seconds:.2f},"
        f" links {plan.link_seconds:.2f}, network {plan.network_seconds:.2f})",
        *_turns(plan),
        f"utilisation by the ideal count at most {plan.mfu:.0%};"
        f" {plan.images_per_second:.1f} images/s a chip",
        f"the stage: {plan.stage_days:.1f} days, {plan.stage_chip_hours:,.0f} chip-hours",
    ]
    return "\n".join(lines)


def _turns(plan: Plan) -> list[str]:
    if plan.kernel_seconds is None:
        return []
    return [
        f"  kernels one after the other, each at its own bound, {plan.kernel_seconds:.2f} s;"
        f" waits for links {plan.wait_seconds:.2f} s"
    ]


def draw(plan: Plan, out: Path) -> None:
    """Memory by kind against the chip's, and the four bounds of a step."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    bottom = 0.0
    for kind, size in plan.hbm_by_kind.items():
        left.bar(plan.topology, size / 2**30, bottom=bottom, label=kind, width=0.5)
        bottom += size / 2**30
    limit = plan.hbm_limit_bytes / 2**30
    left.axhline(limit, color="black", label="the chip's memory")
    left.axhline(FITS * limit, color="black", linestyle=":", label=f"{FITS:.0%} of it")
    left.set(ylabel="GiB a chip", xlim=(-0.6, 1.6))
    left.legend(fontsize=8)
    bounds = {
        "compute": plan.compute_seconds,
        "memory": plan.hbm_seconds,
        "links": plan.link_seconds,
        "network": plan.network_seconds,
    }
    right.barh(list(bounds), list(bounds.values()))
    ideal = plan.mfu * plan.step_seconds
    right.axvline(ideal, color="black", linestyle=":", label="ideal FLOPs at peak")
    right.set(xlabel="seconds a step, at least")
    right.legend(fontsize=8)
    figure.savefig(out, dpi=110)
    plt.close(figure)
