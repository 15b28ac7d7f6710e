"""CLIP scores for the pairs of a crawl that came without.

python launch/clip_score.py --weights=CLIP --config=configs/build/web.py --input=DIR \
    --out=DIR/scores

CLIP is a directory in OpenCLIP's or Hugging Face's layout, tokenizer included. Sources whose config
asks for a score are scored, only pairs that the other rules leave; `config.clip_scores="scores"`
lets `python -m data_pipelines.build run` read what was written. A stopped run goes on where it was;
`--part=0/8` to `--part=7/8` share the shards among eight machines.
"""

import argparse
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from data_pipelines.build.scores import Scorer, score_shard, scores_path, wants_scores
from data_pipelines.build.settings import BuildSettings, check_settings, load_page
from data_pipelines.build.sources import find_shards
from data_pipelines.clip.scorer import ClipScorer
from qwenvl_jax import command_line


def score_crawl(
    settings: BuildSettings,
    *,
    source_root: pathlib.Path,
    out: pathlib.Path,
    scorer: Scorer,
    part: tuple[int, int] = (0, 1),
) -> None:
    """Score every shard of this part that has no scores yet, a line each.

    Raises:
      ValueError: no source asks for scores, or a source's folder is absent or empty.
    """
    wanted = {name: s for name, s in settings.sources.items() if wants_scores(s)}
    if not wanted:
        raise ValueError("config.sources: none has a min_clip_score or require_clip_score")
    jobs = [
        (name, shard) for name, s in wanted.items() for shard in find_shards(source_root / s.path)
    ]
    for name, shard in jobs[part[0] :: part[1]]:
        path = scores_path(out, name, shard)
        if path.exists():
            continue
        start = time.monotonic()
        count = score_shard(shard, path, settings=wanted[name], scorer=scorer)
        rate = count / (time.monotonic() - start)
        print(f"{name}/{shard.name}: {count} pairs scored, {rate:,.0f} a second", flush=True)


def _part(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part such as 0/8")
    return int(index), int(count)


def main(argv: list[str] | None = None) -> int:
    parser = command_line.Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", required=True, help="directory of a CLIP model")
    parser.add_argument("--config", required=True, help="a page such as configs/build/web.py")
    parser.add_argument("--input", required=True, help="folder that the config's paths start from")
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument("--batch_size", type=int, default=256, help="pairs on the devices at once")
    parser.add_argument("--dtype", default="bfloat16", help="bfloat16 or float32")
    parser.add_argument("--part", type=_part, default=(0, 1), help="INDEX/COUNT of the shards")
    args = parser.parse_args(argv)

    def work() -> None:
        if args.batch_size < 1:
            raise ValueError(f"--batch_size={args.batch_size} must be at least 1")
        settings = check_settings(load_page(args.config))
        command_line.writable(args.out, "--out")
        score_crawl(
            settings,
            source_root=pathlib.Path(args.input),
            out=pathlib.Path(args.out),
            scorer=ClipScorer(args.weights, batch_size=args.batch_size, dtype=args.dtype),
            part=args.part,
        )

    return command_line.run("clip_score", work, debug="debug" in args)


if __name__ == "__main__":
    sys.exit(main())
