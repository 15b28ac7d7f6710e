"""`python -m data_pipelines.build render`."""

import argparse

from data_pipelines.build.ocr.config import RenderConfig
from data_pipelines.build.ocr.render import render


def register(jobs) -> None:
    """Add the sub-commands to argparse's sub-parsers."""
    drawn = jobs.add_parser("render", help="pages of text, drawn, with the place of every line")
    drawn.add_argument("--out", required=True, help="folder to write to")
    for name, kind in RenderConfig.__annotations__.items():
        default = RenderConfig._field_defaults.get(name)
        kind = kind if kind in (int, float) else str
        drawn.add_argument(f"--{name}", type=kind, default=default, required=default is None)
    drawn.set_defaults(command=_render)


def _render(arguments: argparse.Namespace) -> None:
    config = RenderConfig(**{name: getattr(arguments, name) for name in RenderConfig._fields})
    print(f"{render(config, arguments.out)}: {config.pages} records")
