"""`python -m data_pipelines.build chat`."""

import argparse
from pathlib import Path

from data_pipelines.build.chat.job import REJECTS, ChatConfig, build_chat
from data_pipelines.build.chat.like_released import MENDED, OPTION

HELP = (
    "take what the released fine-tuning code takes: cut a long dialogue at the row, drop a first"
    " answer, a last question, and a question whose answer is empty; each is counted"
)


def register(jobs) -> None:
    """Add the sub-command to argparse's sub-parsers."""
    parser = jobs.add_parser("chat", help="dialogues in the released fine-tuning format")
    parser.add_argument("--input", required=True, type=Path, help="a JSON list, or JSON lines")
    parser.add_argument("--images", required=True, type=Path, help="folder of the pictures")
    parser.add_argument("--out", required=True, type=Path, help="folder to write to")
    for name, value in ChatConfig()._asdict().items():
        if isinstance(value, bool):
            parser.add_argument(f"--{name}", action="store_true", help=HELP)
        else:
            parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> None:
    config = ChatConfig(**{name: getattr(arguments, name) for name in ChatConfig._fields})
    outcome = build_chat(arguments.input, images=arguments.images, out=arguments.out, config=config)
    for source, count in outcome.records.items():
        print(f"{source}: {count} dialogues")
    for change, count in outcome.changed.items():
        print(f"changed, {change}: {count}")
    for reason, count in outcome.rejected.items():
        option = not config.like_released and reason in MENDED
        hint = f"; {OPTION} may take them" if option else ""
        print(f"rejected, {reason}: {count} (listed in {arguments.out / REJECTS}{hint})")
