"""What can be compared, by name: built-in suites, entry points and a user's own file."""

import importlib.util
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

from innerloop.adjoints import Adjoint
from innerloop.compare.suite import Suite
from innerloop.errors import InputError
from innerloop.solvers import Solver

GROUP = "innerloop.compare"
"""Entry points of this group name modules that add suites, solvers or adjoints when imported."""

Factory = Callable[[bool], Suite]
"""Makes a suite, a small one if called with True."""

SUITES: dict[str, Factory] = {}
SOLVERS: dict[str, Solver] = {}
ADJOINTS: dict[str, Adjoint] = {}

_Entry = TypeVar("_Entry")


def add_suite(name: str, factory: Factory) -> None:
    """Add a suite.

    Args:
        name: name of the suite, as in `--suite`.
        factory: called with True for a quick run, False for a full one; returns the suite.

    Raises:
        InputError: there is a suite of that name.
    """
    _add(SUITES, "suite", name, factory)


def add_solver(name: str, solver: Solver) -> None:
    """Add a solver as a row of every suite whose inner problem it solves.

    Args:
        name: the row's name.
        solver: the solver.

    Raises:
        InputError: `solver` is not a `Solver`, or the name is taken.
    """
    if not isinstance(solver, Solver):
        raise InputError(f"solver {name!r}: {solver!r}, should be an innerloop Solver")
    _add(SOLVERS, "solver", name, solver)


def add_adjoint(name: str, adjoint: Adjoint) -> None:
    """Add an adjoint as a row of every suite that compares adjoints.

    Args:
        name: the row's name, after that of the solver it is compared under.
        adjoint: the adjoint.

    Raises:
        InputError: `adjoint` is not an `Adjoint`, or the name is taken.
    """
    if not isinstance(adjoint, Adjoint):
        raise InputError(f"adjoint {name!r}: {adjoint!r}, should be an innerloop Adjoint")
    _add(ADJOINTS, "adjoint", name, adjoint)


def _add(entries: dict[str, _Entry], what: str, name: str, entry: _Entry) -> None:
    if name in entries:
        raise InputError(f"{what} {name!r} exists already; choose another name")
    entries[name] = entry


def load_entry_points() -> list[str]:
    """Import the additions of installed packages.

    Returns:
        A line for every entry point whose own requirements are not installed.

    Raises:
        InputError: one fails in another way; the message names it.
    """
    absent = []
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except ModuleNotFoundError as error:
            absent.append(f"{entry.value} is left out: {error.name} is not installed")
        except Exception as error:
            raise InputError(_failed(f"entry point {entry.name} ({entry.value})", error)) from error
    return absent


def load_module(path: str | Path) -> None:
    """Run a user's file, which adds suites, solvers or adjoints.

    Raises:
        InputError: there is no such file, or it fails; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"--module: no such file: {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"--module: {path} should be a Python file, NAME.py")
    before = _contents()
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except Exception as error:
        raise InputError(_failed(f"--module: {path}", error)) from error
    if _contents() == before:
        raise InputError(
            f"--module: {path} adds nothing; call innerloop.compare.add_problem, add_solver, "
            "add_adjoint or add_suite in it"
        )


def _contents() -> list[list[str]]:
    return [list(entries) for entries in (SUITES, SOLVERS, ADJOINTS)]


def _failed(what: str, error: Exception) -> str:
    return f"{what} fails: {type(error).__name__}: {error}"


def choose(patterns: Iterable[str], names: Iterable[str], option: str) -> list[str]:
    """The names that match any of the patterns, in the order of the names.

    Args:
        patterns: shell patterns such as "few-shot-*"; "all" is everything.
        names: the names to choose from.
        option: the command-line option, for the message.

    Raises:
        InputError: a pattern matches nothing.
    """
    names = list(names)
    patterns = ["*" if pattern == "all" else pattern for pattern in patterns]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(f"{option}: {pattern!r} matches none of {', '.join(names)}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def installed(package: str | None) -> bool:
    """Whether a package that a row needs can be imported."""
    return package is None or importlib.util.find_spec(package) is not None
