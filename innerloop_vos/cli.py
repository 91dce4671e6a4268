"""The command line: `innerloop-vos COMMAND ...`; each command is a module of `commands`."""

import os

# Small CPU convolutions collapse under OpenMP contention; this must precede the torch import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import sys
from collections.abc import Sequence

import innerloop
from innerloop import SolveError
from innerloop_vos.commands import convert, demo, evaluate, score, segment, train
from innerloop_vos.errors import InputError

BAD_INPUT = 2
INTERRUPTED = 130

_COMMANDS = (segment, score, evaluate, train, convert, demo)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments after the program's name. Default: those of the process.

    Returns:
        The exit code: 0 for success, 2 for input that cannot be used, 130 if interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="innerloop-vos",
        description="Segment objects through a video from their first mask, and measure how well.",
        epilog="Start with: innerloop-vos demo. Exit codes: 0 done, 2 bad input, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=innerloop.__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add_parser(commands)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except InputError as error:
        return _fail(str(error))
    except SolveError as error:
        return _fail(f"the inner solver failed on this input: {error}")
    except KeyboardInterrupt:
        print("innerloop-vos: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def _fail(message: str) -> int:
    print(f"innerloop-vos: error: {message}", file=sys.stderr)
    return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
