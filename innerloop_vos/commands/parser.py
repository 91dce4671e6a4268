"""The parser of all commands, of which only the one that is called is imported.

So the help and the version are there without the packages that the commands need.
"""

import argparse
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

_COMMANDS = {
    "segment": "segment a video from its first mask or box, or without",
    "score": "measure J and F of masks",
    "evaluate": "segment a split of DAVIS and score it",
    "train": "train a network",
    "reproduce": "make a table or a figure of the papers",
    "convert": "convert weights of a released system",
    "demo": "segment and score a clip that it makes; needs no data",
}
"""The commands, each a module beside this one, in a few words."""

_OURS = ("innerloop", "innerloop_vos")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line.

    Args:
        argv: arguments after the program's name. None: those of the process.

    Returns:
        The arguments, with the function that runs the command under `run`.

    Raises:
        SystemExit: with 2 if they are wrong, or the packages of the command are not installed;
            with 0 if they ask for help or for the version.
    """
    parser = argparse.ArgumentParser(
        prog="innerloop-vos",
        description="Segment objects through a video from their first mask, and measure how well.",
        epilog="Start with: innerloop-vos demo. Exit codes: 0 done, 2 bad input, 130 interrupted "
        "(Ctrl-C), 143 terminated (SIGTERM).",
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="show program's version number and exit"
    )
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=_Command
    )
    for name, help in _COMMANDS.items():
        commands.add_parser(name, help=help, module=name)
    return parser.parse_args(argv)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from innerloop import __version__  # takes seconds, for it imports torch

        print(__version__)
        parser.exit()


class _Command(argparse.ArgumentParser):
    """The parser of a command, which its module completes once the command is called.

    Args:
        module: the name of the module.
        options: see `argparse.ArgumentParser`.
    """

    def __init__(self, *, module: str, **options: Any) -> None:
        super().__init__(**options)
        self.module = module

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse the arguments of the command."""
        try:
            with warnings.catch_warnings(action="ignore"):  # torch's, where numpy is missing
                module = import_module(f"innerloop_vos.commands.{self.module}")
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] in _OURS:
                raise
            needs = f"{self.module} needs {error.name}, which is not installed"
            self.exit(2, f"innerloop-vos: error: {needs}: pip install 'innerloop[vos]'\n")
        module.declare(self)
        return super().parse_known_args(args, namespace)
