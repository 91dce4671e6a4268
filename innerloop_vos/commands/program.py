"""Runs a command: how it is interrupted, and how it ends."""

import argparse
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from innerloop import SolveError
from innerloop.errors import InputError
from innerloop_vos.runs import signals
from innerloop_vos.runs.folder import sweep

BAD_INPUT = 2


def run(arguments: argparse.Namespace) -> int:
    """Run a command, and return its exit code; see `innerloop_vos.cli.main`.

    Args:
        arguments: as `innerloop_vos.commands.parser.parse` parsed them.
    """
    try:
        with signals.raised(), _short_warnings():
            return _interruptible(arguments)
    except KeyboardInterrupt:  # between this block and the one in there
        return signals.exit_code()


def _interruptible(arguments: argparse.Namespace) -> int:
    try:
        return _run(arguments)
    except KeyboardInterrupt:
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


def _run(arguments: argparse.Namespace) -> int:
    try:
        arguments.run(arguments)
    except Exception as error:
        if signals.received():
            # Compiled code that is interrupted, while it is imported above all, raises its own.
            raise KeyboardInterrupt from error
        if isinstance(error, InputError):
            return _fail(str(error))
        if isinstance(error, SolveError):
            return _fail(f"the inner solver failed on this input: {error}")
        raise
    return 0


def _sweep(arguments: argparse.Namespace) -> None:
    """Remove the temporary files of outputs: the signal may have come while one was removed."""
    for name in ("csv", "json", "overlay", "out"):
        if path := getattr(arguments, name, None):
            sweep(Path(path).parent, Path(path).stem)


def _fail(message: str) -> int:
    print(f"innerloop-vos: error: {message}", file=sys.stderr)
    return BAD_INPUT
