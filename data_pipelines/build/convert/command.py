"""`python -m data_pipelines.build convert`."""

import argparse
from pathlib import Path

import numpy as np

from data_pipelines.build.convert.entry import Annotations
from data_pipelines.build.convert.formats import FORMATS
from data_pipelines.build.convert.job import convert
from data_pipelines.build.evaluation import Evaluation, evaluation_keys


def register(jobs) -> None:
    """Add the sub-command to argparse's sub-parsers."""
    parser = jobs.add_parser("convert", help="public annotation files to sources, one a task")
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--annotations", required=True, nargs="+", type=Path,
                        help="the files of one split; a folder for ai2d and grit")  # fmt: skip
    parser.add_argument("--images", type=Path, help="folder of the pictures; grit needs none")
    parser.add_argument("--split", default="train",
                        help="where one file has several: ai2d, ocr_vqa, refcoco, scienceqa,"
                        " Karpathy's captions")  # fmt: skip
    parser.add_argument("--exclude", nargs="+", default=[], metavar="FOLDER",
                        help="evaluation pictures, or sources converted from a test split: what"
                        " shows one of them, or one like it, is left out")  # fmt: skip
    parser.add_argument("--together", type=int, default=1, metavar="N",
                        help="up to N entries that show one picture become one record: for"
                        " training, where the ViT then sees it once")  # fmt: skip
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> None:
    excluded = [evaluation_keys(folder, key="--exclude") for folder in arguments.exclude]
    outcome = convert(
        arguments.format,
        Annotations(tuple(arguments.annotations), arguments.split),
        images=arguments.images,
        out=Path(arguments.out),
        evaluation=Evaluation(np.concatenate(excluded)) if excluded else None,
        together=arguments.together,
    )
    for source, count in outcome.records.items():
        print(f"{source}: {count} records")
    for reason, count in outcome.rejected.items():
        print(f"rejected, {reason}: {count} (such as {', '.join(outcome.examples[reason])})")
