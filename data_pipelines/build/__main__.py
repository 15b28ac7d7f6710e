"""`python -m data_pipelines.build JOB`: make the embedded data set, convert, clean, check.

scenes --out=DIR [--FIELD=VALUE ..]
convert --format=vqav2 --annotations FILE .. --images=DIR --out=DIR
chat --input=train.json --images=DIR --out=DIR [--max_bad=0.01] [--FIELD=VALUE ..]
extract --files=DIR --out=DIR [--kind=html] [--FIELD=VALUE ..]
render --text=FILE --language=zh --out=DIR [--backgrounds=DIR] [--fonts=DIR] [--FIELD=VALUE ..]
run --config=configs/build/web.py --input=DIR --out=DIR [--engine=beam] [BEAM OPTIONS ..]
verify FOLDER ..
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from data_pipelines.build.chat import command as chat
from data_pipelines.build.convert import command as convert
from data_pipelines.build.ocr import command as ocr
from data_pipelines.build.scenes import SceneConfig, build_scenes
from qwenvl_jax import command_line
from qwenvl_jax.endings import Ending


def main() -> int:
    parser = command_line.Parser(prog="python -m data_pipelines.build")
    jobs = parser.add_subparsers(dest="job", required=True)
    scenes = jobs.add_parser("scenes", help="emoji over photographs, captioned in two languages")
    scenes.add_argument("--out", required=True, help="folder to write to")
    for name, value in SceneConfig()._asdict().items():
        scenes.add_argument(f"--{name}", type=type(value), default=value)
    run = jobs.add_parser("run", help="filter and de-duplicate a raw crawl into sources")
    run.add_argument("--config", required=True, help="a page such as configs/build/web.py")
    run.add_argument("--input", required=True, help="folder that the config's paths start from")
    run.add_argument("--out", required=True, help="folder to write to")
    run.add_argument("--engine", choices=("local", "beam"), default="local")
    run.add_argument("--processes", type=int, default=os.cpu_count(), help="of the local engine")
    verify = jobs.add_parser("verify", help="compare sources with their manifests")
    verify.add_argument("folders", nargs="+")
    convert.register(jobs)
    chat.register(jobs)
    ocr.register(jobs)
    arguments, rest = parser.parse_known_args()
    if rest and getattr(arguments, "engine", "local") != "beam":
        parser.unknown(arguments, rest)
    return command_line.run(
        "build",
        lambda: _work(arguments, rest),
        debug="debug" in arguments,
        interrupted="the same command goes on or starts over",
    )


def _work(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Do a job; returns 1 where `verify` finds damage."""
    start = time.monotonic()
    if arguments.job == "verify":
        return _verify(arguments.folders)
    command_line.writable(arguments.out, "--out")
    try:
        if arguments.job == "run":
            _run(arguments, rest)
        elif arguments.job == "scenes":
            fields = {name: getattr(arguments, name) for name in SceneConfig._fields}
            build_scenes(SceneConfig(**fields), arguments.out)
        else:
            arguments.command(arguments)
    except BrokenProcessPool:
        resumed = arguments.job in ("run", "render", "extract")
        again = "goes on from here" if resumed else "starts over"
        raise Ending(f"a worker was killed (memory?); the same command {again}") from None
    print(f"wrote {arguments.out} in {time.monotonic() - start:.1f} s")
    return 0


def _run(arguments: argparse.Namespace, beam_options: Sequence[str]) -> None:
    from data_pipelines.build.clean import clean
    from data_pipelines.build.engine import beam_engine, local_engine
    from data_pipelines.build.settings import check_settings, load_page

    if arguments.processes < 1:
        raise ValueError("--processes must be at least 1")
    local = arguments.engine == "local"
    clean(
        check_settings(load_page(arguments.config)),
        source_root=Path(arguments.input),
        out=Path(arguments.out),
        engine=local_engine(arguments.processes) if local else beam_engine(beam_options),
    )


def _verify(folders: Sequence[str]) -> int:
    from data_pipelines.build.shards import read_manifest, verify

    wrong = 0
    for folder in folders:
        try:
            verify(Path(folder))
            manifest = read_manifest(Path(folder))
            print(f"{folder}: {manifest['records']} records, {manifest['bytes']} bytes, intact")
        except (ValueError, FileNotFoundError) as error:
            wrong = 1
            print(error, file=sys.stderr)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
