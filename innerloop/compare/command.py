"""`innerloop compare`: run suites, print tables, and keep the results as files."""

import argparse
import importlib
from functools import partial
from pathlib import Path
from typing import Any

import torch

from innerloop._files import atomic_path, prepare_output
from innerloop.compare import registry
from innerloop.compare.results import SuiteResult, write_csv, write_json
from innerloop.compare.runner import run_suite
from innerloop.errors import InputError

_MOST = 10_000


def add_parser(commands: Any) -> None:
    """Declare the command and its arguments."""
    parser = commands.add_parser(
        "compare",
        help="compare inner solvers, adjoints and other libraries",
        description="Solve the same bilevel problems by every solver, adjoint and library, and "
        "print for each the loss, the distance to the exact solution, the error of the "
        "meta-gradient, times and memory, as figures and as ratios to a baseline.",
        epilog="A row that claims the exact meta-gradient and misses it is marked 'wrong'. The "
        "libraries compared with are rows where they are installed. An interrupted run keeps the "
        "suites that are finished.",
    )
    parser.add_argument(
        "--suite",
        metavar="NAME,...",
        default="all",
        help="suites to run, names or patterns such as 'few-shot-8-*' (default: all)",
    )
    parser.add_argument(
        "--rows",
        metavar="NAME,...",
        help="only these rows, names or patterns such as 'innerloop*,higher'; baselines stay",
    )
    parser.add_argument("--list", action="store_true", help="print the suites and stop")
    parser.add_argument("--quick", action="store_true", help="small problems, in a few minutes")
    parser.add_argument(
        "--rounds", metavar="N", type=int, default=3, help="timings of every row (default: 3)"
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=int,
        default=1,
        help="threads of torch (default: 1, with the steadiest times; "
        "with more, set OMP_WAIT_POLICY=PASSIVE)",
    )
    parser.add_argument(
        "--out", metavar="DIR", help="write compare.json, .csv and .md and a plot per suite"
    )
    parser.add_argument(
        "--module",
        metavar="FILE.py",
        action="append",
        default=[],
        help="a file that adds solvers, adjoints, problems or suites; may be repeated",
    )
    parser.add_argument(
        "--features",
        metavar="FILE.npz",
        help="adds the suite conv-file: features (2, C, H, W) and targets (2, D, H, W) of a frame "
        "to fit to and one to judge by",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Run the suites that the arguments name.

    Raises:
        InputError: an argument cannot be used, or a package of the extra is missing.
    """
    _check_installed()
    from rich.console import Console

    console = Console()
    names = _suites(arguments, console)
    if arguments.list:
        console.print("\n".join(names), highlight=False)
        return
    out = prepare_output(arguments.out) if arguments.out else None
    threads = torch.get_num_threads()
    torch.set_num_threads(arguments.threads)
    try:
        _run(names, arguments, out, console)
    finally:
        torch.set_num_threads(threads)


def _check_installed() -> None:
    for package in ("rich", "matplotlib"):
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise InputError(
                f"{package} is not installed, which this command needs: "
                "pip install 'innerloop[compare]'"
            ) from error


def _suites(arguments: argparse.Namespace, console: Any) -> list[str]:
    """Register everything, and return the names of the suites that are wanted."""
    for name in ("rounds", "threads"):
        given = getattr(arguments, name)
        if given < 1:
            raise InputError(f"--{name}: {given}, should be at least 1")
        if given > _MOST:
            raise InputError(f"--{name}: {str(given)[:50]}, should be at most {_MOST}")
    importlib.import_module("innerloop.compare.suites")
    for line in registry.load_entry_points():
        console.print(line, style="yellow", highlight=False)
    for path in arguments.module:
        registry.load_module(path)
    if arguments.features:
        from innerloop.compare.suites.conv import features_of_file

        registry.SUITES["conv-file"] = partial(features_of_file, Path(arguments.features))
    return registry.choose(arguments.suite.split(","), registry.SUITES, "--suite")


def _run(names: list[str], arguments: argparse.Namespace, out: Path | None, console: Any) -> None:
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from innerloop.compare.table import notes, table

    rounds = arguments.rounds
    suites = {name: registry.SUITES[name](arguments.quick) for name in names}
    chosen = {name: list(suite.rows) for name, suite in suites.items()}
    if arguments.rows:
        everything = {row.name: None for rows in chosen.values() for row in rows}
        wanted = registry.choose(arguments.rows.split(","), everything, "--rows")
        for name, suite in suites.items():
            chosen[name] = [r for r in suite.rows if r.name in (*wanted, suite.baseline)]

    finished: list[SuiteResult] = []
    columns = [TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn()]
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=sum(map(len, chosen.values())) * (rounds + 1))
        for name, suite in suites.items():

            def advance(row: str, name: str = name) -> None:
                progress.update(task, advance=1, description=f"{name}: {row}")

            result = run_suite(name, suite, chosen[name], rounds, advance)
            finished.append(result)
            for line in table(result):
                console.print(line)
            for note in notes(result):
                console.print(f"  {note}", style="red", markup=False, highlight=False)
            if out is not None:
                _write(out, finished)
    if out is not None:
        console.print(f"results in {out}", highlight=False)


def _write(out: Path, finished: list[SuiteResult]) -> None:
    from innerloop.compare.plots import plot
    from innerloop.compare.table import markdown

    write_json(out / "compare.json", finished)
    write_csv(out / "compare.csv", finished)
    with atomic_path(out / "compare.md") as path:
        path.write_text(markdown(finished))
    plot(finished[-1], out / f"{finished[-1].name}.png")
