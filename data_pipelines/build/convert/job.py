"""From the entries of an annotation file to sources, one for each task."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from data_pipelines.build.convert.entry import Annotations, Entry, EntryError
from data_pipelines.build.convert.formats import FORMATS
from data_pipelines.build.evaluation import Evaluation
from data_pipelines.build.hashes import bytes_key
from data_pipelines.build.image_header import ImageHeader, read_header, refusal
from data_pipelines.build.source_writer import SourceWriter
from data_pipelines.build.sources import Bad, read_below
from data_pipelines.schema import Ask, Box, Record, Region, Task

_ASPECT_SLACK = 0.02  # relative; rounding to whole pixels of a resized picture stays below
_EXAMPLES = 5  # keys a reason in the manifest


class Outcome(NamedTuple):
    """What became of the entries of a file."""

    records: dict[str, int]  # by source folder
    rejected: dict[str, int]  # by reason
    examples: dict[str, list[str]]  # by reason, where to look


def convert(
    name: str,
    annotations: Annotations,
    *,
    images: Path | None,
    out: Path,
    evaluation: Evaluation | None = None,
    together: int = 1,
) -> Outcome:
    """Write `out/FORMAT_TASK/*.array_record` with manifests.

    An entry that cannot be used is skipped and counted; the counts are in the manifests too.

    Args:
      name: one of FORMATS.
      images: the folder that the pictures' names start from.
      evaluation: entries that show one of its pictures are left out.
      together: at most so many entries of a task that follow one another and show one picture
        become one record, whose `meta` is the first entry's.

    Raises:
      ValueError: `together` below 1, the annotations are not of the format, or not one entry can
        be used.
    """
    if together < 1:
        raise ValueError(f"--together={together} must be at least 1")
    form = FORMATS[name]
    if images is not None and not images.is_dir():
        raise ValueError(f"--images={images} is no folder")
    writers = {task: SourceWriter(out / f"{name}_{task}", f"{name}_{task}") for task in form.tasks}
    rejected: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for made in _together(_records(form.read(annotations), images, evaluation), together):
        if isinstance(made, Record):
            writers[made.task].add(made)
            continue
        rejected[made.reason] += made.count
        shown = examples.setdefault(made.reason, [])
        if len(shown) < _EXAMPLES:
            shown.append(made.key[:200].encode("utf-8", "replace").decode())
    counts = {f"{name}_{task}": writer.records for task, writer in writers.items()}
    rejects = dict(sorted(rejected.items()))
    if not any(counts.values()):
        raise ValueError(f"{name}: not one entry could be used; rejected: {rejects or 'none'}")
    config = dict(
        format=name,
        annotations=[path.name for path in annotations.paths],
        split=annotations.split,
        together=together,
    )
    for task, writer in writers.items():
        # Rejects are those of the whole file: an entry without a picture has no task yet.
        writer.finish(config=config, task=task, language="en", rejected=rejects, examples=examples)
    return Outcome(counts, rejects, examples)


def _together(records: Iterator[Record | Bad], most: int) -> Iterator[Record | Bad]:
    waiting: dict[Task, Record] = {}
    for new in records:
        if isinstance(new, Bad):
            yield new
            continue
        held = waiting.get(new.task)
        if held and held.images == new.images and len(held.more) + 1 < most:
            ask = Ask(new.task, new.text, new.question, new.regions)
            waiting[new.task] = held._replace(more=(*held.more, ask))
            continue
        if held:
            yield held
        waiting[new.task] = new
    yield from waiting.values()


def _records(
    entries: Iterator[Entry | Bad], images: Path | None, evaluation: Evaluation | None
) -> Iterator[Record | Bad]:
    seen: set[bytes] = set()
    for entry in entries:
        if isinstance(entry, Bad):
            yield entry
            continue
        try:
            record = _record(entry, images)
            if evaluation and (why := _held_out(record.images[0], evaluation)):
                raise EntryError(why)
            key = bytes_key(record.key.encode())
            if key in seen:
                raise EntryError("duplicate_key")
            seen.add(key)
        except EntryError as error:
            yield Bad(error.reason, entry.key)
        else:
            yield record


def _record(entry: Entry, images: Path | None) -> Record:
    texts = (entry.key, entry.text, entry.question, *(r.phrase for r in entry.regions))
    if any(0xD800 <= ord(c) <= 0xDFFF for text in texts if not text.isascii() for c in text):
        raise EntryError("bad_utf8")  # half a character, which JSON can spell
    image = entry.image if isinstance(entry.image, bytes) else _find(entry.image, images)
    header = read_header(image)
    if why := refusal(header):
        raise EntryError(why)
    regions = tuple(_scaled(region, entry.extent, header) for region in entry.regions)
    meta = entry.meta | {"width": header.width, "height": header.height}
    return Record(
        entry.key, entry.task, "en", (image,), entry.text, entry.question, regions, meta=meta
    )


def _held_out(image: bytes, evaluation: Evaluation) -> str | None:
    try:
        return evaluation.reason(image)
    except ValueError:  # its header could be read, the rest cannot
        return "image_unreadable"


def _find(names: tuple[str, ...], images: Path | None) -> bytes:
    if images is None:
        raise ValueError("--images is needed: the annotations name their pictures")
    reason = "missing_image"
    for name in names:
        found = read_below(images, name)
        if isinstance(found, bytes):
            return found
        reason = found if found != "missing_image" else reason
    raise EntryError(reason)


def _scaled(region: Region, extent: tuple[float, float] | None, header: ImageHeader) -> Region:
    width, height = extent or (float(header.width), float(header.height))
    if width <= 0 or height <= 0:
        raise EntryError("bad_size")
    if extent not in (None, (1.0, 1.0)):
        ratio = (width / height) / (header.width / header.height)
        if abs(ratio - 1) > _ASPECT_SLACK:  # another picture, or a cropped one
            raise EntryError("size_differs")
    return region._replace(boxes=tuple(_fractions(box, width, height) for box in region.boxes))


def _fractions(box: Box, width: float, height: float) -> Box:
    """Boxes may reach a little over the edge, as annotators' boxes do; they are cut there.

    Raises:
      EntryError: no box, or less than half of it is in the picture.
    """
    if not all(math.isfinite(v) for v in box) or box[0] >= box[2] or box[1] >= box[3]:
        raise EntryError("bad_box")
    x0, y0, x1, y1 = (v / side for v, side in zip(box, (width, height, width, height)))
    cut = tuple(min(max(v, 0.0), 1.0) for v in (x0, y0, x1, y1))
    if (cut[2] - cut[0]) * (cut[3] - cut[1]) < 0.5 * (x1 - x0) * (y1 - y0):
        raise EntryError("bad_box")
    return cut
