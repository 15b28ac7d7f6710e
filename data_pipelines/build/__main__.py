"""`python -m data_pipelines.build scenes --out=DIR [--FIELD=VALUE ..]`: build a data set here."""

import argparse
import time

from data_pipelines.build.scenes import SceneConfig, build_scenes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m data_pipelines.build")
    jobs = parser.add_subparsers(dest="job", required=True)
    scenes = jobs.add_parser("scenes", help="emoji over photographs, captioned in two languages")
    scenes.add_argument("--out", required=True, help="folder to write to")
    for name, value in SceneConfig()._asdict().items():
        scenes.add_argument(f"--{name}", type=type(value), default=value)
    fields = vars(parser.parse_args())
    del fields["job"]
    out, start = fields.pop("out"), time.monotonic()
    build_scenes(SceneConfig(**fields), out)
    print(f"wrote {out} in {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    main()
