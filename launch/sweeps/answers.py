"""What the arms answered to the same records, side by side."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data_pipelines.stream.source import read_records
from launch.sweeps.plan import Run
from launch.sweeps.progress import DONE
from qwenvl_jax.image.decode import decode

SHOWN, SIDE = 12, 96


class Row(NamedTuple):
    picture: str  # a data URL; empty without one
    true: str
    answers: dict[str, str]  # by arm


def side_by_side(runs: Sequence[Run], folders: Sequence[str], limit: int) -> dict[str, list[Row]]:
    """{`source task language`: the first records that the first seed of every arm answered}."""
    seed = min((run.seed for run in runs if (run.folder / DONE).is_file()), default=0)
    runs = [run for run in runs if run.seed == seed and (run.folder / DONE).is_file()]
    tables = {}
    for folder in map(Path, folders):
        names = {
            path.stem for run in runs for path in run.folder.glob(f"answers/{folder.name}_*.jsonl")
        }
        for name in sorted(names):
            said: dict[str, dict[str, str]] = {}
            true: dict[str, str] = {}
            for run in runs:
                path = run.folder / "answers" / f"{name}.jsonl"
                lines = path.read_text("utf-8").splitlines() if path.is_file() else []
                for line in map(json.loads, lines):
                    said.setdefault(line["key"], {})[run.arm] = line["answer"]
                    true[line["key"]] = line["true"]
            keys = list(said)[:SHOWN]
            pictures = _pictures(folder, limit, set(keys))
            tables[name] = [Row(pictures.get(key, ""), true[key], said[key]) for key in keys]
    return tables


def _pictures(folder: Path, limit: int, keys: set[str]) -> dict[str, str]:
    return {
        record.key: data_url(decode(record.images[-1], SIDE))
        for record in read_records(folder, limit=limit)
        if record.key in keys and record.images
    }


def data_url(pixels: UInt8[np.ndarray, "H W 3"]) -> str:
    """RGB bytes as a PNG that stands in a page itself."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
