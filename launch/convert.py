"""Weights in released layouts.

python launch/convert.py import --qwen_vl=DIR --out=WORKDIR
python launch/convert.py import --vit=OPENCLIP --decoder=QWEN_7B --out=WORKDIR
python launch/convert.py export --checkpoint=WORKDIR --out=DIR [--dtype=float32] [--code=DIR]
python launch/convert.py export --layout=own ..    with the PyTorch code that loads it
python launch/convert.py verify --checkpoint=WORKDIR --out=DIR
python launch/convert.py parity DIR    our numbers beside recorded ones, one line a case
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from launch import weights
from qwenvl_jax import command_line
from qwenvl_jax.train import parity


def run_parity(args: argparse.Namespace) -> int:
    """Print every case with its largest relative error; 1 if one is above its limit."""
    worst: dict[float, float] = {}
    failed = count = 0
    for error in parity.errors(args.directory):
        verdict = "ok" if error.ok else f"ABOVE {error.limit:.0e}"
        print(f"{error.value:.2e}  {verdict:<12}  {error.case}", flush=True)
        worst[error.limit] = max(worst.get(error.limit, 0.0), error.value)
        failed += not error.ok
        count += 1
    summary = ", ".join(f"{value:.2e} (limit {limit:.0e})" for limit, value in worst.items())
    print(f"{count - failed} of {count} cases within their limits; largest: {summary}")
    return 1 if failed else 0


def run_import(args: argparse.Namespace) -> int:
    """Write a work directory at step 0."""
    command_line.writable(args.out, "--out")
    given = {name: getattr(args, name) for name in ("qwen_vl", "vit", "decoder")}
    weights.import_weights(
        {name: path for name, path in given.items() if path},
        args.out,
        page=args.config,
        verify=not args.no_verify,
    )
    print(f"{args.out}: checkpoint at step 0")
    return 0


def run_export(args: argparse.Namespace) -> int:
    """Write a released directory and compare it back; 1 if that fails."""
    if not 0 < args.shard_gb < float("inf"):
        raise ValueError(f"--shard_gb={args.shard_gb} must be a number above 0")
    if args.layout == "own" and (args.code or args.chat_format != "auto"):
        flag = "code" if args.code else "chat_format"
        raise ValueError(f"--{flag} is for --layout=released; --layout=own carries its own code")
    command_line.writable(args.out, "--out")
    weights.export_weights(
        args.checkpoint,
        args.out,
        layout=args.layout,
        dtype=args.dtype,
        shard_bytes=int(args.shard_gb * 1e9),
        code=args.code,
        chat_format=args.chat_format,
    )
    return run_verify(args)


def run_verify(args: argparse.Namespace) -> int:
    """Print every check; 1 if one fails."""
    failed = 0
    for check in weights.verify(args.checkpoint, args.out):
        print(f"{'ok' if check.ok else 'DIFFERS':<8} {check.what}: {check.found}", flush=True)
        failed += not check.ok
    if failed:
        print(f"convert: {args.out} is NOT the same as {args.checkpoint}", file=sys.stderr)
    return 1 if failed else 0


def make_parser() -> command_line.Parser:
    parser = command_line.Parser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("import", help="PyTorch directories -> a work directory")
    command.add_argument("--qwen_vl", help="a released Qwen-VL or Qwen-VL-Chat directory")
    command.add_argument("--decoder", help="Qwen-7B, or the decoder of a Qwen-VL directory")
    command.add_argument("--vit", help="OpenCLIP's vision tower, or that of a Qwen-VL directory")
    command.add_argument("--out", required=True, help="the new work directory")
    command.add_argument(
        "--config",
        default=str(pathlib.Path(__file__).parents[1] / "configs" / "stage1.py"),
        help="mesh, data and, where no --qwen_vl says them, sizes; `:variant` after it",
    )
    command.add_argument(
        "--no_verify", action="store_true", help="do not compare sources with their MANIFEST.json"
    )
    command.set_defaults(run=run_import)
    for name, run in (("export", run_export), ("verify", run_verify)):
        command = commands.add_parser(name, help=run.__doc__)
        command.add_argument("--checkpoint", required=True, help="a work directory")
        command.add_argument("--out", required=True, help="the directory in the released layout")
        command.set_defaults(run=run)
        if name == "export":
            command.add_argument(
                "--layout",
                default="released",
                choices=("released", "own"),
                help="own: with the PyTorch code that loads any model of ours",
            )
            command.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
            command.add_argument("--shard_gb", type=float, default=5.0, help="10^9 bytes a file")
            command.add_argument("--code", help="a folder with the released .py files to copy in")
            command.add_argument(
                "--chat_format",
                default="auto",
                choices=("auto", "raw", "chatml"),
                help="of generation_config.json; auto: by what the model was trained on",
            )
    command = commands.add_parser("parity", help="compare with recorded numbers")
    command.add_argument("directory", help="holds config.json, model.safetensors, cases.npz")
    command.set_defaults(run=run_parity)
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    return command_line.run("convert", lambda: args.run(args), debug="debug" in args)


if __name__ == "__main__":
    sys.exit(main())
