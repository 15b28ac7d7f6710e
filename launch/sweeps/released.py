"""What arms cost at the released size: the plans of launch/compile.py, one a folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

# Column -> what it is of a plan.json; per chip where not said otherwise.
COLUMNS: dict[str, Callable[[dict[str, Any]], float]] = {
    "seconds a step, at least": lambda plan: plan["step_seconds"],
    "TFLOP a step and chip, as compiled": lambda plan: plan["flops_hardware"] / 1e12,
    "TFLOP a step and chip, ideal": lambda plan: plan["flops_ideal"] / 1e12,
    "GiB a chip": lambda plan: plan["hbm_bytes"] / 2**30,
    "images/s a chip, at most": lambda plan: plan["images_per_second"],
    "chip-hours of the stage, at least": lambda plan: plan["stage_chip_hours"],
}


class Released(NamedTuple):
    topology: str
    costs: dict[str, dict[str, float]]  # {arm: {column: value}}


def read_plans(folder: str) -> Released:
    """`FOLDER/ARM/plan.json`, as `launch/compile.py --out=FOLDER/ARM` writes it; none for "".

    Raises:
      ValueError: no plan there, one that cannot be read, or plans for different chips.
    """
    costs: dict[str, dict[str, float]] = {}
    chips: dict[str, str] = {}
    if not folder:
        return Released("", costs)
    for path in sorted(Path(folder).glob("*/plan.json")):
        arm = path.parent.name
        try:
            plan = json.loads(path.read_text("utf-8"))
            costs[arm] = {name: float(of(plan)) for name, of in COLUMNS.items()}
            chips[arm] = f"{plan['topology']}, {plan['chips']} chips"
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"--released: {path} is no plan of compile.py: {error!r}") from None
    if not costs:
        raise ValueError(f"--released={folder}: no ARM/plan.json of launch/compile.py is there")
    if len(set(chips.values())) > 1:
        raise ValueError(f"--released={folder}: plans for different chips: {chips}")
    return Released(next(iter(chips.values())), costs)
