"""The page beside an export: what the weights are, how they were trained, how they score."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwenvl_jax.checkpoint.stored import Stored

_FIGURES = ("loss", "samples_read", "tokens", "images", "padding")


OWN = (
    "`AutoModelForCausalLM.from_pretrained(DIR, trust_remote_code=True)` and"
    " `AutoProcessor.from_pretrained(DIR, trust_remote_code=True)` of transformers load it: the"
    " model's PyTorch code is beside the weights."
)


def model_card(stored: Stored, *, dtype: str, loading: str) -> str:
    """Markdown: how to load it, training config, data figures and eval scores, as far as the work
    directory has them.

    Args:
      loading: `OWN`, or what `released_loading` gives.
    """
    config = stored.run_config
    sections = [
        "---\ntags: [vision-language, qwen-vl]\n---",
        f"# {stored.workdir.name}",
        f"A Qwen-VL trained with qwenvl-jax, exported at step {stored.step} in {dtype}."
        " `MANIFEST.json` holds the sha256 of every file.",
        "## Loading\n\n" + loading,
        "## Data\n\n" + _data(config, _last_record(stored.workdir)),
        "## Scores\n\n" + _scores(stored.workdir),
        "## Training config\n\n" + _block(_without_places(config)),
    ]
    return "\n\n".join(sections) + "\n"


def released_loading(chat: bool, notes: Sequence[str]) -> str:
    form = "dialogues in ChatML" if chat else "text as it stands (`raw`)"
    lines = [
        f"`generation_config.json` is for {form}. `config.json` and `tokenizer_config.json` name"
        " the released code, which `transformers` loads with `trust_remote_code=True`."
    ]
    return "\n".join(lines + ([""] if notes else []) + [f"* {note}" for note in notes])


def _block(values: Any) -> str:
    return f"```json\n{json.dumps(values, indent=1, ensure_ascii=False, sort_keys=True)}\n```"


def _without_places(config: dict) -> dict:
    """Folders of the training machine say nothing to a reader and something about their owner."""
    sources = {"data": ("sources", "tokenizer"), "heldout": ("sources",)}
    kept = {key: value for key, value in config.items() if key != "init"}
    for part, hidden in sources.items():
        if part in kept:
            kept[part] = {key: value for key, value in kept[part].items() if key not in hidden}
    return kept


def _last_record(workdir: Path) -> dict:
    """The newest line of the run's log that is whole."""
    log = workdir / "metrics.jsonl"
    lines = log.read_text("utf-8").splitlines() if log.is_file() else []
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:  # cut by a kill
            continue
        if "loss" in record:
            return record
    return {}


def _data(config: dict, record: dict) -> str:
    lines = ["| source | language | weight | epochs |", "|---|---|---|---|"]
    for name, source in config.get("data", {}).get("sources", {}).items():
        epochs = record.get(f"epochs/{name}", "not recorded")
        lines.append(f"| {name} | {source['language']} | {source['weight']} | {epochs} |")
    if record:
        lines += ["", f"At step {record['step']}, the last that was logged:", ""]
        lines += [f"* {key}: {record[key]}" for key in _FIGURES if key in record]
    return "\n".join(lines)


def _scores(workdir: Path) -> str:
    """What the demo's test and `evaluate` left in the work directory, newest last."""
    parts = []
    summary, scores = workdir / "evaluation.json", workdir / "scores.jsonl"
    if summary.is_file():
        parts.append(_block(json.loads(summary.read_text("utf-8"))))
    if scores.is_file():
        lines = ["| step | data | task | language | metric | score | blind |", "|" + "---|" * 7]
        for s in map(json.loads, scores.read_text("utf-8").splitlines()):
            blind = "-" if s["blind"] is None else f"{s['blind']:.3f}"
            cells = [s["step"], Path(s["data"]).name, s["task"], s["language"], s["metric"]]
            lines.append(f"| {' | '.join(map(str, cells))} | {s['value']:.3f} | {blind} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) or "None were found beside the checkpoint."
