"""From a folder of PDF or HTML files to OCR sources, one for each language."""

import io
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgpack

from data_pipelines.build import resume, shards
from data_pipelines.build.ocr import html
from data_pipelines.build.ocr.pdf import Page, read_pages
from data_pipelines.build.ocr.rules import ExtractConfig, check, judge_text, language_of
from data_pipelines.build.ocr.workers import survive
from data_pipelines.build.source_writer import SourceWriter
from data_pipelines.build.sources import Bad
from data_pipelines.schema import Record, pack, unpack

_EXAMPLES = 5  # pages a reason in the manifest
_SECONDS = 300.0  # a file's reader is stopped after so long, where there are several processes


class Outcome(NamedTuple):
    """What became of the pages of a folder."""

    records: dict[str, int]  # by source folder
    rejected: dict[str, int]  # by reason
    examples: dict[str, list[str]]  # by reason, where to look


class FileTask(NamedTuple):
    """One file."""

    path: Path
    config: ExtractConfig
    part: Path  # what was made of it, written whole

    @property
    def name(self) -> str:
        return self.path.relative_to(self.config.files).as_posix()


def extract(config: ExtractConfig, out: str | Path) -> Outcome:
    """Write `out/KIND_LANGUAGE/*.array_record` with manifests, in order of the files' names.

    A stopped run goes on, a finished one is left as it is; that of other settings is replaced.

    Raises:
      ValueError: a config value out of range, or not one page can be used.
    """
    files, out = check(config), Path(out)
    if any(path.suffix.lower() in html.SUFFIXES for path in files):
        html.check_installed()
    names = {language: f"{config.kind}_{language}" for language in ("en", "zh")}
    settings = config._replace(processes=0)._asdict()
    shown = sorted(p for p in Path(config.files).rglob("*") if p.suffix.lower() in html.SHOWN)
    identity = resume.identity_of(settings, [*files, *(shown if config.kind == "html" else ())])
    work = resume.open_work(out, config.kind, identity, sources=list(names.values()))
    if work is not None:
        tasks = [FileTask(path, config, work / f"{n:08d}.part") for n, path in enumerate(files)]
        _read(tasks, config.processes or os.cpu_count() or 1)
        writers = {lang: SourceWriter(out / name, name) for lang, name in names.items()}
        rejected, examples = _gather(tasks, writers)
        for language, writer in writers.items():
            if writer.records:
                writer.finish(
                    config=settings, task="ocr", language=language, rejected=rejected,
                    examples=examples, run=identity,
                )  # fmt: skip
        shutil.rmtree(work)
        if not any(writer.records for writer in writers.values()):
            raise ValueError(
                f"files={config.files}: not one page could be used; rejected: {rejected}"
            )
    return _outcome(out, list(names.values()))


def _read(tasks: Sequence[FileTask], processes: int) -> None:
    left = [task for task in tasks if not task.part.exists()]
    found = survive(read_file, left, processes=processes, seconds=_SECONDS)
    for task, done in zip(left, found, strict=True):
        if done is None:
            _save(task, [Bad("reader_died", task.name)])


def read_file(task: FileTask) -> bool:
    """Note the pages of one file, kept or not."""
    _save(task, list(_records(task)))
    return True


def _save(task: FileTask, results: Sequence[Record | Bad]) -> None:
    rows = [pack(made) if isinstance(made, Record) else list(made) for made in results]
    shards.save_whole(task.part, msgpack.packb(rows))


def _gather(
    tasks: Sequence[FileTask], writers: dict[str, SourceWriter]
) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Add every file's records to the sources; counts and examples of the rest by reason."""
    rejected: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for task in tasks:
        for row in msgpack.unpackb(task.part.read_bytes()):
            if isinstance(row, bytes):
                record = unpack(row)
                writers[record.language].add(record)
                continue
            bad = Bad(*row)
            rejected[bad.reason] += bad.count
            shown = examples.setdefault(bad.reason, [])
            if len(shown) < _EXAMPLES:
                shown.append(bad.key)
    return dict(sorted(rejected.items())), examples


def _outcome(out: Path, names: Sequence[str]) -> Outcome:
    """As the manifests of a finished run tell it."""
    there = [name for name in names if (out / name / shards.MANIFEST).is_file()]
    manifests = {name: shards.read_manifest(out / name) for name in there}
    counts = {name: manifests[name]["records"] if name in there else 0 for name in names}
    any_one = next(iter(manifests.values()))
    return Outcome(counts, any_one["rejected"], any_one["examples"])


def _records(task: FileTask) -> Iterator[Record | Bad]:
    config, name = task.config, task.name
    for page in _pages(task):
        if isinstance(page, Bad):
            key = name + page.key.removeprefix(task.path.name)  # with the folder the file is in
            yield page._replace(key=key)
            continue
        language = None
        reason = judge_text(page.lines, config)
        if reason is None:
            language = language_of(page.lines)
            reason = None if language in ("en", "zh") else "other_language"
        if reason is not None:
            yield Bad(reason, f"{name} page {page.number + 1}")
            continue
        out = io.BytesIO()
        page.picture.save(out, "JPEG", quality=90)
        width, height = page.picture.size
        yield Record(
            f"{config.kind}/{name}/{page.number}", "ocr", language, (out.getvalue(),),
            regions=page.lines, meta={"width": width, "height": height},
        )  # fmt: skip


def _pages(task: FileTask) -> Iterator[Page | Bad]:
    path, config = task.path, task.config
    if path.suffix.lower() not in html.SUFFIXES:
        yield from read_pages(path, config)
        return
    printed = html.print_page(
        path, root=Path(config.files), side=config.side, pages=config.pages_per_file
    )
    if isinstance(printed, Bad):
        yield printed
        return
    for page in read_pages(path, config, data=printed.pdf):
        if isinstance(page, Page) and printed.undrawn & set("".join(r.phrase for r in page.lines)):
            page = Bad("undrawn_character", f"{path.name} page {page.number + 1}")
        yield page
