"""Whether a work directory's model answers dialogues (ChatML) or continues text (raw)."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_pipelines.build import shards
from qwenvl_jax.checkpoint.json_file import read_object
from qwenvl_jax.checkpoint.stored import Stored

GENERATION = "generation_config.json"
FORMATS = ("raw", "chatml")


def keep_generation(sources: Mapping[str, str], workdir: Path) -> None:
    """Keep an imported model's `generation_config.json` in the work directory, for its export."""
    path = Path(sources.get("qwen_vl", "")) / GENERATION
    if "qwen_vl" in sources and path.is_file():
        read_object(path)  # refuses a damaged one
        shutil.copyfile(path, workdir / GENERATION)


def trained_format(stored: Stored) -> tuple[str, str]:
    """(`raw` or `chatml`, why): by the imported release, else by the sources of the run's data."""
    path = stored.workdir / GENERATION
    if stored.step == 0 and path.is_file():
        found = read_object(path).get("chat_format", "raw")
        if found not in FORMATS:
            raise ValueError(f"{path}: chat_format={found!r} must be one of {', '.join(FORMATS)}")
        return found, f"as imported, {path}"
    if stored.step == 0:
        return "raw", "step 0: nothing is trained"
    chats = [
        name
        for name, source in stored.run_config["data"]["sources"].items()
        if _is_read(source) and _holds_chats(name, source)
    ]
    if chats:
        return "chatml", f"trained on {', '.join(chats)}"
    return "raw", "no source of the run holds dialogues"


def _is_read(source: Mapping[str, Any]) -> bool:
    return max(source["weight"], *(c["weight"] for c in source.get("changes", ())), 0) > 0


def _holds_chats(name: str, source: Mapping[str, Any]) -> bool:
    """By the source's manifest where its data still lie there, else by its name."""
    manifest = Path(source["path"]) / shards.MANIFEST
    try:
        return json.loads(manifest.read_bytes())["task"] == "chat"
    except (OSError, ValueError, KeyError, TypeError):
        return name.split("_")[0] == "chat"
