"""From a folder of PDF files to OCR sources, one for each language."""

import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from data_pipelines.build.ocr.pdf import read_pages
from data_pipelines.build.ocr.rules import ExtractConfig, check, judge_text, language_of
from data_pipelines.build.ocr.workers import survive
from data_pipelines.build.source_writer import SourceWriter
from data_pipelines.build.sources import Bad
from data_pipelines.schema import Record

_EXAMPLES = 5  # pages a reason in the manifest
_SECONDS = 300.0  # a file's reader is stopped after so long, where there are several processes


class Outcome(NamedTuple):
    """What became of the pages of a folder."""

    records: dict[str, int]  # by source folder
    rejected: dict[str, int]  # by reason
    examples: dict[str, list[str]]  # by reason, where to look


def extract(config: ExtractConfig, out: str | Path) -> Outcome:
    """Write `out/KIND_LANGUAGE/*.array_record` with manifests, in order of the files' names.

    Raises:
      ValueError: a config value out of range, or not one page can be used.
    """
    files = check(config)
    names = {language: f"{config.kind}_{language}" for language in ("en", "zh")}
    writers = {lang: SourceWriter(Path(out) / name, name) for lang, name in names.items()}
    rejected: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for results in _run(config, files):
        for made in results:
            if isinstance(made, Record):
                writers[made.language].add(made)
                continue
            rejected[made.reason] += made.count
            shown = examples.setdefault(made.reason, [])
            if len(shown) < _EXAMPLES:
                shown.append(made.key)
    counts = {names[language]: writer.records for language, writer in writers.items()}
    rejects = dict(sorted(rejected.items()))
    if not any(counts.values()):
        raise ValueError(f"files={config.files}: not one page could be used; rejected: {rejects}")
    for language, writer in writers.items():
        if writer.records:
            writer.finish(
                config=config._replace(processes=0)._asdict(), task="ocr", language=language,
                rejected=rejects, examples=examples,
            )  # fmt: skip
    return Outcome(counts, rejects, examples)


def _run(config: ExtractConfig, files: Sequence[Path]) -> Iterator[list[Record | Bad]]:
    root = Path(config.files)
    work = partial(records_of, root=root, config=config)
    processes = config.processes or os.cpu_count() or 1
    found = survive(work, files, processes=processes, seconds=_SECONDS)
    for path, results in zip(files, found, strict=True):
        name = path.relative_to(root).as_posix()
        yield [Bad("reader_died", name)] if results is None else results


def records_of(path: Path, *, root: Path, config: ExtractConfig) -> list[Record | Bad]:
    """The pages of one file, kept or not."""
    results: list[Record | Bad] = []
    name = path.relative_to(root).as_posix()
    for page in read_pages(path, config):
        if isinstance(page, Bad):
            key = name + page.key.removeprefix(path.name)  # with the folder that the file is in
            results.append(page._replace(key=key))
            continue
        language = None
        reason = judge_text(page.lines, config)
        if reason is None:
            language = language_of(page.lines)
            reason = None if language in ("en", "zh") else "other_language"
        if reason is not None:
            results.append(Bad(reason, f"{name} page {page.number + 1}"))
            continue
        out = io.BytesIO()
        page.picture.save(out, "JPEG", quality=90)
        width, height = page.picture.size
        results.append(
            Record(
                f"{config.kind}/{name}/{page.number}", "ocr", language, (out.getvalue(),),
                regions=page.lines, meta={"width": width, "height": height},
            )
        )  # fmt: skip
    return results
