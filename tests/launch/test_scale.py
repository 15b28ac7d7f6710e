"""If these break, the table of docs/scale.md asks for an hour of compiles that the trainer refuses,
or a search spends its own on the wrong candidates.
"""

from typing import NamedTuple

import pytest

from benchmarks import scale
from launch.plan import chips


class Compiled(NamedTuple):
    """What a row's program came to, a chip: as `benchmarks/scale.py` printed it."""

    gib: float
    tflop: float
    memory: float  # seconds
    links: float  # and network


COMPILED = {
    "stage1_v4-512": Compiled(19.8, 1437.2, 1.765, 1.264),
    "stage1_v5e-256": Compiled(10.8, 1438.7, 3.538, 3.791),
    "stage1_v5p-128": Compiled(57.8, 5748.9, 3.944, 1.526),
    "stage1_v5p-512": Compiled(56.0, 1437.2, 0.935, 0.211),
    "stage1_v6e-256": Compiled(19.8, 1437.2, 1.448, 0.846),
    "stage2_v4-512": Compiled(22.1, 546.7, 0.942, 0.556),
    "stage2_v5e-256": Compiled(12.7, 546.7, 1.100, 1.104),
    "stage2_v5p-128": Compiled(60.4, 2173.9, 1.648, 0.687),
    "stage2_v5p-512": Compiled(58.2, 543.5, 0.392, 0.119),
    "stage2_v6e-256": Compiled(18.9, 544.6, 0.632, 0.367),
    "stage3_v4-512": Compiled(2.6, 13.3, 0.014, 0.045),
    "stage3_v5e-256": Compiled(2.6, 13.3, 0.022, 0.068),
    "stage3_v5p-128": Compiled(7.4, 52.7, 0.056, 0.037),
    "stage3_v5p-512": Compiled(2.7, 13.3, 0.021, 0.023),
    "stage3_v6e-256": Compiled(2.6, 13.3, 0.011, 0.030),
    "stage1_h100-8": Compiled(62.8, 45621.4, 22.369, 7.217),
    "stage1_h100-64": Compiled(61.8, 5702.7, 2.801, 0.919),
    "stage2_h100-8": Compiled(50.5, 17320.7, 9.349, 6.884),
    "stage2_h100-64": Compiled(47.7, 2165.1, 1.113, 1.089),
    "stage3_h100-8": Compiled(33.8, 417.0, 0.223, 0.186),
    "stage3_h100-64": Compiled(9.9, 52.2, 0.041, 0.124),
}

# Seconds of a step on GPUs, kernels and waits for links.
STEPS = {
    "stage1_h100-8": 58.7,
    "stage1_h100-64": 7.36,
    "stage2_h100-8": 21.79,
    "stage2_h100-64": 2.986,
    "stage3_h100-8": 0.521,
    "stage3_h100-64": 0.149,
}


def test_every_stage_is_on_every_pod():
    """Once: `--only` and the folders of plans go by these names."""
    wanted = {f"stage{n}_{pod}" for n in (1, 2, 3) for pod in scale.TOPOLOGIES}
    assert {row.name for row in scale.ROWS} == wanted and len(scale.ROWS) == len(wanted)


@pytest.mark.parametrize("row", scale.ROWS, ids=lambda row: row.name)
def test_estimates_are_near_what_was_compiled(row):
    """Or a search compiles what does not fit, and not what does: with what a frozen ViT would keep
    for a way back that it does not have, stage 3 seemed twice as large. Rows are such as the
    trainer takes, with the paper's global batch.
    """
    step, compiled = scale.step_of(row), COMPILED[row.name]
    assert step.batch.rows == row.page().data.global_rows
    guess, rate = scale.guess_of(row, step), chips.CHIPS[row.pod.split("-")[0]].flops
    # Layers in a row have their weights gathered further ahead than a scan has.
    off = 0.35 if row.platform == "gpu" else 0.25
    assert guess.hbm / 2**30 == pytest.approx(compiled.gib, rel=off)
    assert guess.compute * rate / 1e12 == pytest.approx(compiled.tflop, rel=0.02)
    # On a v5p's whole torus weights are gathered by sums, which send twice as much.
    assert 0.6 < guess.links / compiled.links < 1.45
    # With eight at work on a row, as in stage 3, what a layer gathers does not leave the chip; with
    # four, some of it.
    assert 0.75 < guess.memory / compiled.memory < (4 if row.stage == "stage3" else 1.6)


@pytest.mark.parametrize("name", STEPS)
def test_a_gpus_kernels_and_waits_are_added_up(name):
    """By the slowest of compute, memory and links alone, as on TPUs, a search of GPUs takes more
    traffic for nothing: steps would seem 19 to 43 % shorter.
    """
    [row] = [row for row in scale.ROWS if row.name == name]
    # Sums over a tensor axis are waited for.
    off = 0.25 if row.mesh[2] > 1 else 0.15
    assert scale.guess_of(row, scale.step_of(row)).seconds == pytest.approx(STEPS[name], rel=off)
