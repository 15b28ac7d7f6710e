"""Weights in released layouts.

python launch/convert.py parity DIR    our numbers beside recorded ones, one line a case
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

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


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("parity", help="compare with recorded numbers")
    command.add_argument("directory", help="holds config.json, model.safetensors, cases.npz")
    command.set_defaults(run=run_parity)
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except ValueError as error:
        print(f"convert: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
