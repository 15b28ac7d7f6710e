"""How well the text rules decide on labelled captions, by kind, and how many captions a second.

    python benchmarks/captions.py [--captions=FILE] [--part=all|tuned|held] [--errors] [--rate=FILE]

FILE has a header and four columns, set apart by tabs: language of the source, kind, `keep` or the
rule that is to drop it, caption; what cannot be seen is written \\u200b, \\x92, \\U000e0001. A
third of the captions, by a hash, was held back while the rules were written: `--part=held`.
`--rate=FILE` times the rules over the lines of a text file.
"""

import argparse
import hashlib
import re
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_pipelines.build.rules import Pair, apply
from data_pipelines.build.settings import SourceSettings

CAPTIONS = Path(__file__).parents[1] / "tests" / "data_pipelines" / "captions.tsv"
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})|\\u([0-9a-f]{4})|\\U([0-9a-f]{8})")
_SETTINGS = {
    "en": SourceSettings("en", "en", min_characters=5),
    "zh": SourceSettings("zh", "zh", min_characters=2),
}
# The smallest image that every image rule leaves: only the text is judged.
_IMAGE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0\0\0\1\0\x08\2\0\0\0"


class Caption(NamedTuple):
    language: str  # of the source
    kind: str
    expected: str  # keep, or the rule that is to drop it
    text: str


def read_captions(path: Path = CAPTIONS) -> list[Caption]:
    lines = path.read_text("utf-8").split("\n")
    rows = [Caption(*line.split("\t")) for line in lines[1:] if line]
    return [row._replace(text=_ESCAPE.sub(_character, row.text)) for row in rows]


def is_held(caption: Caption) -> bool:
    """Whether a caption belongs to the third that the rules were written without."""
    return int(hashlib.sha256(caption.text.encode("utf-8", "replace")).hexdigest(), 16) % 3 == 0


def decide(caption: Caption) -> tuple[str, str]:
    """`keep` or the name of the rule that drops a caption, and its text as mended."""
    pair = Pair("", _IMAGE, caption.text)
    reason, _ = apply(pair, _SETTINGS[caption.language])
    return reason or "keep", pair.text


def precision_recall(captions: list[Caption]) -> tuple[float, float]:
    """Of dropping: the share of drops that are right, and of due drops that are made."""
    found = Counter((decide(c)[0] != "keep", c.expected != "keep") for c in captions)
    right = found[True, True]
    return right / max(1, right + found[True, False]), right / max(1, right + found[False, True])


def table(captions: list[Caption]) -> list[str]:
    """A row a kind: captions, dropped, decided rightly, dropped by the expected rule."""
    rows = defaultdict(Counter)
    for caption in captions:
        reason, _ = decide(caption)
        due = caption.expected != "keep"
        rows[caption.kind, "drop" if due else "keep"].update(
            count=1, dropped=reason != "keep", right=(reason != "keep") == due,
            named=reason == caption.expected,
        )  # fmt: skip
    lines = ["| kind | to | captions | right | by the expected rule |", "|---|---|---|---|---|"]
    for (kind, due), n in sorted(rows.items()):
        lines.append(f"| {kind} | {due} | {n['count']} | {n['right']} | {n['named']} |")
    return lines


def _character(found: re.Match) -> str:
    return chr(int(found[1] or found[2] or found[3], 16))


def _rate(path: Path) -> None:
    captions = [Caption("en", "", "", t) for t in path.read_text("utf-8").split("\n")[:20_000] if t]
    decide(captions[0]._replace(text="zapatos negros de mujer"))  # lingua loads its models
    start = time.process_time()
    reasons = Counter(decide(caption)[0] for caption in captions)
    seconds = time.process_time() - start
    print(f"{len(captions):,} captions of {path.name}: {len(captions) / seconds:,.0f} a second")
    print("  " + ", ".join(f"{name} {count}" for name, count in reasons.most_common()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--captions", type=Path, default=CAPTIONS)
    parser.add_argument("--part", choices=("all", "tuned", "held"), default="all")
    parser.add_argument("--errors", action="store_true", help="print each wrong decision")
    parser.add_argument("--rate", type=Path, action="append", default=[], help="a text file")
    arguments = parser.parse_args()
    parts = {"all": (True, False), "tuned": (False,), "held": (True,)}[arguments.part]
    captions = [c for c in read_captions(arguments.captions) if is_held(c) in parts]
    if arguments.errors:
        for caption in captions:
            reason, text = decide(caption)
            if (reason == "keep") != (caption.expected == "keep"):
                print(f"{caption.kind}: expected {caption.expected}, got {reason}: {text!r}")
    print("\n".join(table(captions)))
    precision, recall = precision_recall(captions)
    print(f"{len(captions)} captions: precision {precision:.3f}, recall {recall:.3f} of dropping")
    for path in arguments.rate:
        _rate(path)


if __name__ == "__main__":
    main()
