"""What the runs of a table gave: read, printed, written and drawn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from innerloop_vos.data import SequenceFolders
from innerloop_vos.reproduce.plan import Measured, Plan, Words
from innerloop_vos.reproduce.report import draw_curve, figures, laid_out, write_figures
from innerloop_vos.reproduce.tables import Figures, Table
from innerloop_vos.scoring import SequenceScores, read_json
from innerloop_vos.scoring import table as scores_table

SCORES = "scores.json"


class Result(NamedTuple):
    """The measurement of a row that counts.

    Args:
        measured: where it is.
        dataset: the sequences that were measured.
        scores: of them.
        figures: of the table's columns; None where there is nothing to score.
    """

    measured: Measured
    dataset: SequenceFolders
    scores: list[SequenceScores]
    figures: Figures


Results = dict[tuple[str, str], Result]
"""By row and measurement."""


def read_results(table: Table, plan: Plan, opened: Callable[[Words], SequenceFolders]) -> Results:
    """Read what was measured; of several measurements of a row, the best one by the first column.

    Args:
        table: the table.
        plan: its commands, which have run.
        opened: opens the data set that the words of a command name.
    """
    found: Results = {}
    for (row, measure), several in plan.measured.items():
        if not table.columns[measure]:
            continue
        results = []
        for each in several:
            dataset = opened(each.words)
            names = set(dataset.names)
            scores = [s for s in read_json(each.out / SCORES) if s.name in names]
            values = figures(table.columns[measure], scores, dataset)
            results.append(Result(each, dataset, scores, values))
        found[row, measure] = max(results, key=lambda result: result.figures[0] or 0.0)
    return found


def show_results(table: Table, results: Results, out: Path, about: dict[str, Any]) -> None:
    """Print a table, and write `TABLE.json` and, of a curve, `TABLE.png`.

    Args:
        table: the table.
        results: what was measured.
        out: existing folder for the files.
        about: what the figures depend on.
    """
    console = Console()
    measured: dict[str, dict[str, Figures]] = {}
    for (row, measure), result in results.items():
        measured.setdefault(row, {})[measure] = result.figures
        if table.sequences:
            console.print(row, scores_table(result.scores))
        if result.measured.submission:
            print(f"{row}: for the server of the benchmark: {result.measured.submission}")
    for measure, columns in table.columns.items():
        if columns:
            console.print(laid_out(table, measure, measured))
    write_figures(out / f"{table.name}.json", table, measured, about)
    if table.curve:
        draw_curve(out / f"{table.name}.png", table, measured)
