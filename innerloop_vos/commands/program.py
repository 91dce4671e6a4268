"""The program of all commands: what it is given, which command runs, and how it ends."""

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import innerloop
from innerloop import SolveError
from innerloop.errors import InputError
from innerloop_vos.commands import convert, demo, evaluate, score, segment, train
from innerloop_vos.runs import signals
from innerloop_vos.runs.folder import sweep

BAD_INPUT = 2

_COMMANDS = (segment, score, evaluate, train, convert, demo)


def run(argv: Sequence[str] | None) -> int:
    """Run a command, and return its exit code; see `innerloop_vos.cli.main`."""
    try:
        with signals.raised(), _short_warnings():
            return _interruptible(argv)
    except KeyboardInterrupt:  # between this block and the one in there
        return signals.exit_code()


def _interruptible(argv: Sequence[str] | None) -> int:
    arguments: argparse.Namespace | None = None
    try:
        arguments = _parser().parse_args(argv)
        return _run(arguments)
    except KeyboardInterrupt:
        if arguments is not None:
            _sweep(arguments)
        print("innerloop-vos: interrupted", file=sys.stderr)
        return signals.exit_code()


@contextmanager
def _short_warnings() -> Iterator[None]:
    """Show warnings as what they are to the user, without the lines of the program."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_: (
        f"innerloop-vos: warning: {' '.join(str(message).split())}\n"
    )
    try:
        yield
    finally:
        warnings.formatwarning = before


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="innerloop-vos",
        description="Segment objects through a video from their first mask, and measure how well.",
        epilog="Start with: innerloop-vos demo. Exit codes: 0 done, 2 bad input, 130 interrupted "
        "(Ctrl-C), 143 terminated (SIGTERM).",
    )
    parser.add_argument("--version", action="version", version=innerloop.__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add_parser(commands)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    try:
        arguments.run(arguments)
    except InputError as error:
        return _fail(str(error))
    except SolveError as error:
        return _fail(f"the inner solver failed on this input: {error}")
    return 0


def _sweep(arguments: argparse.Namespace) -> None:
    """Remove the temporary files of outputs: the signal may have come while one was removed."""
    for name in ("csv", "json", "overlay", "out"):
        if path := getattr(arguments, name, None):
            sweep(Path(path).parent, Path(path).stem)


def _fail(message: str) -> int:
    print(f"innerloop-vos: error: {message}", file=sys.stderr)
    return BAD_INPUT
