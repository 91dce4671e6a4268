"""The command line: `innerloop COMMAND ...`, also as `python -m innerloop COMMAND ...`."""

import argparse
import sys
from collections.abc import Sequence

import innerloop
from innerloop.compare import command as compare
from innerloop.errors import InputError

BAD_INPUT = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: arguments after the program's name. Default: those of the process.

    Returns:
        The exit code: 0 for success, 2 for input that cannot be used, 130 if interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="innerloop",
        description="Differentiable inner solvers for meta-learning.",
        epilog="Exit codes: 0 done, 2 bad input, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=innerloop.__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    compare.add_parser(commands)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except InputError as error:
        print(f"innerloop: error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("innerloop: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0
