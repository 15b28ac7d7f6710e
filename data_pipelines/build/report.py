"""The account of a run: what each source had, what each rule dropped, and examples to look at."""

import base64
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from data_pipelines.build.duplicates import RULES
from data_pipelines.build.shard_job import VERDICTS
from data_pipelines.build.shards import save_whole

_SHOWN = 6  # rejects a rule on the sheet
_COUNTS = ("rejected", "mended", "languages", "sides", "lengths")


def account(parts: Sequence[Path]) -> dict[str, Any]:
    """Add up the shards of one source from their work files, `PART.json` and `PART.verdicts.npy`.

    Returns:
      original (pairs found, damaged ones too), rejected (by rule), mended (by mend), languages,
      sides and lengths of what the rules left, samples (rule -> [key, text, PNG in base64]).
    """
    total: dict[str, Any] = dict(original=0, samples={})
    counters = {name: Counter() for name in _COUNTS}
    for part in parts:
        shard = json.loads(Path(f"{part}.json").read_bytes())
        total["original"] += shard["original"]
        for name in _COUNTS:
            counters[name].update(shard[name])
        verdicts = np.bincount(np.load(f"{part}{VERDICTS}", allow_pickle=False))
        for rule, count in zip(RULES, verdicts.tolist()):
            if rule and count:
                counters["rejected"][rule] += count
        for rule, samples in shard["samples"].items():
            shown = total["samples"].setdefault(rule, [])
            shown.extend(samples[: _SHOWN - len(shown)])
    return total | {name: dict(sorted(counter.items())) for name, counter in counters.items()}


def write(accounts: Mapping[str, dict[str, Any]], out: Path, *, identity: str) -> None:
    """Write report.md, report.png, rejects.png and, last, report.json."""
    save_whole(out / "report.md", markdown(accounts).encode())
    save_whole(out / "report.png", _picture(accounts))
    save_whole(out / "rejects.png", _sheet(accounts))
    text = json.dumps({"run": identity, "sources": accounts}, indent=1, ensure_ascii=False)
    save_whole(out / "report.json", text.encode())


def markdown(accounts: Mapping[str, dict[str, Any]]) -> str:
    """The paper's table (original, kept, remaining) and the counts of every rule."""
    lines = ["# What was kept", "", "| source | original | kept | remaining |", "|---|---|---|---|"]
    for name, a in accounts.items():
        lines.append(f"| {name} | {a['original']:,} | {a['kept']:,} | {_share(a)} |")
    total = {key: sum(a[key] for a in accounts.values()) for key in ("original", "kept")}
    lines.append(f"| total | {total['original']:,} | {total['kept']:,} | {_share(total)} |")
    names = " | ".join(accounts)
    for title, key in (("dropped by", "rejected"), ("mended", "mended")):
        rows = sorted({row for a in accounts.values() for row in a[key]})
        if rows:
            lines += ["", f"| {title} | {names} |", "|---|" + "---|" * len(accounts)]
        for row in rows:
            cells = " | ".join(f"{a[key].get(row, 0):,}" for a in accounts.values())
            lines.append(f"| {row} | {cells} |")
    lines += ["", "| language of what is kept by the rules | " + names + " |"]
    lines.append("|---|" + "---|" * len(accounts))
    for language in ("en", "zh"):
        cells = " | ".join(f"{a['languages'].get(language, 0):,}" for a in accounts.values())
        lines.append(f"| {language} | {cells} |")
    return "\n".join(lines) + "\n"


def _share(a: Mapping[str, Any]) -> str:
    return f"{100 * a['kept'] / a['original']:.1f} %" if a["original"] else "-"


def _picture(accounts: Mapping[str, dict[str, Any]]) -> bytes:
    """Per source: the waterfall of rules, shorter sides, caption lengths."""
    figure = Figure(figsize=(16, 4.5 * len(accounts)), layout="constrained")
    axes = figure.subplots(len(accounts), 3, squeeze=False, width_ratios=(2, 1, 1))
    for row, (name, a) in zip(axes, accounts.items(), strict=True):
        left, bottoms = a["original"], []
        rules = sorted(a["rejected"].items(), key=lambda item: -item[1])
        for _, count in rules:
            left -= count
            bottoms.append(left)
        labels = ["original", *(rule for rule, _ in rules), "kept"]
        heights = [a["original"], *(count for _, count in rules), a["kept"]]
        colours = ["tab:gray", *["tab:red"] * len(rules), "tab:green"]
        row[0].bar(range(len(labels)), heights, bottom=[0, *bottoms, 0], color=colours)
        row[0].set_xticks(range(len(labels)), labels, rotation=60, ha="right", fontsize=7)
        row[0].set_title(f"{name}: {a['original']:,} -> {a['kept']:,} ({_share(a)})")
        for axis, key, width, title in (
            (row[1], "sides", 64, "shorter side, pixels"),
            (row[2], "lengths", 10, "caption, characters"),
        ):
            bins = sorted((int(start), count) for start, count in a[key].items())
            axis.bar([b for b, _ in bins], [c for _, c in bins], width, align="edge")
            axis.set_title(f"{title} (after the rules)")
    return _png(figure)


def _sheet(accounts: Mapping[str, dict[str, Any]]) -> bytes:
    """Rejected pictures, a row a rule, with the start of their texts."""
    rows = [
        (f"{name}: {rule}", samples)
        for name, a in accounts.items()
        for rule, samples in sorted(a["samples"].items())
    ]
    width, height = 190, 126
    sheet = Image.new("RGB", (_SHOWN * width, max(len(rows), 1) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (title, samples) in enumerate(rows):
        draw.text((4, row * height), title, fill="red")
        for column, (key, text, image) in enumerate(samples):
            corner = (column * width + 4, row * height + 13)
            if image:
                with Image.open(io.BytesIO(base64.b64decode(image))) as picture:
                    sheet.paste(picture, corner)
            # Only ASCII is drawn: the built-in font has no more, and rejects hold anything.
            shown = ascii(text or key)[1:31]
            draw.text((corner[0], corner[1] + 97), shown, fill="black")
    out = io.BytesIO()
    sheet.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    FigureCanvasAgg(figure).print_png(out, metadata={"Software": None})
    return out.getvalue()
