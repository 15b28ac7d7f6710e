"""GRIT: web pictures whose captions have boxes at their phrases.

https://huggingface.co/datasets/zzliang/GRIT. Read as img2dataset leaves it when asked to keep the
columns `noun_chunks` and `ref_exps`; each entry of these is start, end (characters of the caption),
x0, y0, x1, y1 (fractions), score.
"""

from collections.abc import Iterable, Iterator

from data_pipelines.build.convert.entry import Annotations, Entry, EntryError, each, number
from data_pipelines.build.convert.regions import both_ways
from data_pipelines.build.sources import Bad, Raw, find_shards, read_shard
from data_pipelines.schema import Box, Region

Span = tuple[int, int]
_FRACTIONS = (1.0, 1.0)


def grit(source: Annotations) -> Iterator[Entry | Bad]:
    """Samples of grounding from all phrases, of referring and grounded_caption from `ref_exps`.

    Raises:
      ValueError: --annotations is not one folder with shards.
    """
    if len(source.paths) != 1:
        raise ValueError("grit: --annotations takes one folder, as img2dataset wrote it")
    for path in find_shards(source.paths[0]):
        for raw in read_shard(path):
            if isinstance(raw, Bad):
                yield raw
            else:
                yield from each([raw], _read, where=raw.key)


def _read(raw: Raw) -> Iterator[Entry]:
    chunks, phrases = (_places(raw, name) for name in ("noun_chunks", "ref_exps"))
    for span, boxes in phrases.items():
        for box in boxes:
            if box not in chunks.setdefault(span, []):
                chunks[span].append(box)
    kept = [_region(raw.text, span, chunks[span]) for span in disjoint(chunks)]
    if not kept:
        raise EntryError("no_box")
    key = f"grit/{raw.key}"
    yield Entry(key, raw.image, "grounding", raw.text, regions=tuple(kept), extent=_FRACTIONS)
    for span, boxes in phrases.items():
        region = _region(raw.text, span, boxes)._replace(span=None)
        yield from both_ways(f"{key}/{span[0]}-{span[1]}", raw.image, region, extent=_FRACTIONS)


def disjoint(spans: Iterable[Span]) -> list[Span]:
    """The most spans of which no two share a character, in order.

    Greedy: of the spans that begin after the last one kept, the one that ends first; of those the
    one that begins last. No other choice keeps more. (The paper's rule for GRIT, appendix A.2:
    phrases within phrases cannot be marked up.)
    """
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: (span[1], -span[0])):
        if not kept or span[0] >= kept[-1][1]:
            kept.append(span)
    return kept


def _region(text: str, span: Span, boxes: Iterable[Box]) -> Region:
    return Region(text[slice(*span)], tuple(boxes), span=span)


def _places(raw: Raw, name: str) -> dict[Span, list[Box]]:
    """Boxes by span, in the caption's order."""
    places: dict[Span, list[Box]] = {}
    entries = raw.fields.get(name)
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, list) or len(entry) < 6:
            raise EntryError(f"bad_{name}")
        start, end, *box = (number(value, f"bad_{name}") for value in entry[:6])
        if int(start) != start or int(end) != end or not 0 <= start < end <= len(raw.text):
            raise EntryError("bad_span")
        start, end = _trim(raw.text, int(start), int(end))
        places.setdefault((start, end), []).append(tuple(box))
    return dict(sorted(places.items()))


def _trim(text: str, start: int, end: int) -> Span:
    """The span without white space at its ends.

    Raises:
      EntryError: nothing is left.
    """
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    if start == end:
        raise EntryError("bad_span")
    return start, end
