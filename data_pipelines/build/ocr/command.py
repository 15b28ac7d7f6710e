"""`python -m data_pipelines.build render` and `extract`."""

import argparse

from data_pipelines.build.ocr.config import RenderConfig
from data_pipelines.build.ocr.rules import ExtractConfig


def register(jobs) -> None:
    """Add the sub-commands to argparse's sub-parsers."""
    drawn = jobs.add_parser("render", help="pages of text, drawn, with the place of every line")
    _add(drawn, RenderConfig)
    drawn.set_defaults(command=_render)
    read = jobs.add_parser("extract", help="pages of PDF or HTML files, with their lines' places")
    _add(read, ExtractConfig)
    read.set_defaults(command=_extract)


def _add(parser: argparse.ArgumentParser, config: type) -> None:
    parser.add_argument("--out", required=True, help="folder to write to")
    for name, kind in config.__annotations__.items():
        default = config._field_defaults.get(name)
        kind = kind if kind in (int, float) else str
        parser.add_argument(f"--{name}", type=kind, default=default, required=default is None)


def _fields(arguments: argparse.Namespace, config: type):
    return config(**{name: getattr(arguments, name) for name in config._fields})


def _render(arguments: argparse.Namespace) -> None:
    # Imported here, like what extract needs: the other jobs do without fonts and PDF.
    from data_pipelines.build.ocr.render import render

    config = _fields(arguments, RenderConfig)
    print(f"{render(config, arguments.out)}: {config.pages} records")


def _extract(arguments: argparse.Namespace) -> None:
    from data_pipelines.build.ocr.extract import extract

    outcome = extract(_fields(arguments, ExtractConfig), arguments.out)
    for source, count in outcome.records.items():
        print(f"{source}: {count} records")
    for reason, count in outcome.rejected.items():
        print(f"rejected, {reason}: {count} (such as {', '.join(outcome.examples[reason])})")
