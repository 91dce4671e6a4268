"""The options that all trainings have on the command line, and the file that may hold them."""

import argparse
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import tomli_w

from innerloop.errors import InputError
from innerloop_vos.configs import config_names, config_path
from innerloop_vos.configuration.arguments import (
    add_options,
    add_preset_options,
    described,
    option,
    read_fields,
    text,
)
from innerloop_vos.configuration.options import MOST
from innerloop_vos.runs.folder import describe
from innerloop_vos.training.loop import Training, run

Settings = TypeVar("Settings")
_NOT_IN_A_FILE = ("config", "print_config", "run")


class TrainingParser(argparse.ArgumentParser):
    """A parser of options that may come from a file too; those on the command line win.

    Args:
        options: see `argparse.ArgumentParser`.
    """

    def __init__(self, **options: Any) -> None:
        # A short form in a file would stop working when another option gets a similar name.
        super().__init__(allow_abbrev=False, **options)
        self.add_argument(
            "--config",
            metavar="NAME",
            help="options of one of the trainings of the papers, by its name: "
            f"{', '.join(config_names())}; or a TOML file with options by their names, such as "
            "batch-size = 8, decay-at = [10, 20] or resume = true; those on the command line win",
        )
        self.add_argument(
            "--print-config",
            action="store_true",
            default=argparse.SUPPRESS,
            help="write all options as such a file to the standard output, and do nothing else",
        )

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse a command line, with the options of its file before its own."""
        given = list(sys.argv[1:] if args is None else args)
        finder = argparse.ArgumentParser(prog=self.prog, add_help=False, allow_abbrev=False)
        finder.add_argument("--config")
        path = finder.parse_known_args(given)[0].config
        if path is not None and not Path(path).suffix and not config_path(path).exists():
            self.error(f"--config: there is no {path}; there are {', '.join(config_names())}")
        try:
            written = _read_options(path) if path is not None else {}
        except (OSError, ValueError, RecursionError) as error:
            self.error(f"--config: {path} cannot be read: {error}")
        parsed, unknown = super().parse_known_args([*written.values(), *given], namespace)
        if strange := [name for name, word in written.items() if word in unknown]:
            self.error(f"--config: {path} has unknown options: {', '.join(strange)}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Stop with a message of one line, whatever of a file it quotes."""
        super().error(str(InputError(message)))


def _read_options(path: str) -> dict[str, str]:
    """The options in a file, by name, as words of a command line."""
    values = tomllib.loads(config_path(path).read_text(encoding="utf-8"))
    return {name: _word(name, value) for name, value in values.items()}


def _word(name: str, value: object) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    parts = value if isinstance(value, list) else [value]
    if name == "config" or not all(isinstance(part, str | int | float) for part in parts):
        raise ValueError(f"{name} should be a number, a text, a list of these or a truth value")
    return f"--{name}={text(parts)}"


@dataclass(frozen=True)
class RunOptions:
    """Options of the loop of a training."""

    out: str = described(MISSING, "weights, curve, checkpoint", metavar="DIR")
    every: int = described(1000, "steps between checkpoints")
    resume: bool = described(False, "continue the checkpoint in --out")
    tensorboard: bool = described(False, "log for TensorBoard too, in --out")


def add_run_arguments(parser: argparse.ArgumentParser, every: int) -> None:
    """Declare the options of the loop of a training.

    Args:
        parser: receives the options; `run_from_arguments` takes what it parses.
        every: Default number of steps between checkpoints.
    """
    add_options(parser, RunOptions, every=every)


def run_from_arguments(training: Training, iterations: int, arguments: argparse.Namespace) -> bool:
    """Run a training as the command line asks.

    Args:
        training: what to train.
        iterations: number of steps in all.
        arguments: what a parser with `add_run_arguments` parsed.

    Returns:
        True if all iterations are done, False if the training was interrupted.

    Raises:
        InputError: see `innerloop_vos.training.loop.run`.
    """
    options = read_fields(arguments, RunOptions)
    if options.every > MOST:
        raise InputError(f"--every should be at most {MOST}, got {str(options.every)[:50]}")
    return run(training, iterations=iterations, record=describe(arguments), **asdict(options))


def add_settings_arguments(
    parser: argparse.ArgumentParser, *presets: Any, names: str = "", without: Sequence[str] = ()
) -> None:
    """Declare an option for each of the settings of a training.

    Args:
        parser: receives the options; `read_settings` takes what it parses.
        presets: settings of one dataclass, whose values are the defaults.
        names: what the presets are called in the help, where they are several.
        without: settings that are not given on the command line.
    """
    group = parser.add_argument_group(
        "settings", "In brackets: the default" + (f", or those of {names}." if names else ".")
    )
    add_preset_options(group, *presets, without=without)


def read_settings(arguments: argparse.Namespace, preset: Settings) -> Settings:
    """Change a preset as the command line asks.

    Args:
        arguments: what a parser with `add_settings_arguments` parsed.
        preset: one of its presets.

    Raises:
        InputError: A value is out of its range.
    """
    names = [field.name for field in fields(preset)]  # type: ignore[arg-type]
    given = {name: getattr(arguments, name, None) for name in names}
    return replace(preset, **{n: v for n, v in given.items() if v is not None})  # type: ignore[type-var]


def write_config(arguments: argparse.Namespace, preset: Any, implied: Sequence[str] = ()) -> str:
    """Write all options as a file that `--config` reads.

    Args:
        arguments: what a `TrainingParser` parsed.
        preset: the settings that hold where none are given.
        implied: those of which it matters whether they are given; they are left out if not.

    Returns:
        TOML; what has no value is left out.

    Raises:
        InputError: A setting is out of its range.
    """
    settings = asdict(read_settings(arguments, preset))
    options = vars(arguments) | {n: v for n, v in settings.items() if n not in implied}
    return tomli_w.dumps(
        {
            option(name).removeprefix("--"): value
            for name, value in options.items()
            if value is not None and name not in _NOT_IN_A_FILE
        }
    )
