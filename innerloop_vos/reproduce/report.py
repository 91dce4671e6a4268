"""The figures of a table beside those of its paper: in the terminal, as JSON and as a curve."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table as RichTable

from innerloop_vos.data import SequenceFolders, YouTubeVOSDataset
from innerloop_vos.io.files import atomic_path
from innerloop_vos.reproduce.tables import Figures, Table
from innerloop_vos.scoring import SequenceScores, category_scores
from innerloop_vos.scoring.report import SPEED, frames_per_second, overall_summary

Rows = dict[str, dict[str, Figures]]
"""What was measured: figures by row and measurement."""


def figures(
    columns: Sequence[str], scores: Sequence[SequenceScores], dataset: SequenceFolders
) -> Figures:
    """Take the figures of some columns from scores.

    Args:
        columns: "J", "F", "J&F", "J decay" in percent, "FPS", or "G", "J seen" and so on.
        scores: of the sequences of a measurement.
        dataset: what they are sequences of.

    Returns:
        A figure for each column; None where there is nothing to score.
    """
    values: dict[str, float] = {}
    if (speed := frames_per_second(scores)) is not None:
        values[SPEED] = speed
    if any(each.objects for each in scores):
        summary = overall_summary(scores)
        values["J"], values["F"] = 100 * summary.region.mean, 100 * summary.contour.mean
        values["J&F"], values["J decay"] = 100 * summary.overall, 100 * summary.region.decay
        if isinstance(dataset, YouTubeVOSDataset) and not values.keys() >= set(columns):
            means = category_scores(scores, dataset)
            values |= {name: 100 * value for name, value in means.items()}
    return tuple(values.get(column) for column in columns)


def laid_out(table: Table, measure: str, measured: Rows) -> RichTable:
    """Lay out what was measured on a data set for the terminal; in brackets, the paper's."""
    result = RichTable(
        title=f"{table.title}\n{measure}, in brackets the paper",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    result.add_column("", no_wrap=True)
    columns = table.columns[measure]
    for column in columns:
        result.add_column(column, justify="right")
    for row in table.rows:
        ours, paper = measured.get(row.name, {}).get(measure, ()), row.paper.get(measure, ())
        if ours or paper:
            result.add_row(row.name, *map(_cell, columns, _padded(ours), _padded(paper)))
    return result


def write_figures(path: Path, table: Table, measured: Rows, about: dict[str, Any]) -> None:
    """Write what was measured beside what the paper has, whole or not at all."""
    rows = [
        {"name": row.name, "x": row.x, "paper": dict(row.paper), **_measured(row.name, measured)}
        for row in table.rows
    ]
    document = {
        "title": table.title,
        "about": about,
        "columns": {measure: list(columns) for measure, columns in table.columns.items()},
        "rows": rows,
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def draw_curve(path: Path, table: Table, measured: Rows) -> None:
    """Draw a figure that is a curve, what was measured and what the paper has.

    Rows that say where they lie are joined; others are points, with their names.
    """
    # matplotlib takes a second to import.
    from matplotlib.figure import Figure

    ((measure, columns),) = table.columns.items()
    assert table.curve is not None
    across, along = table.curve["x"], table.curve["y"]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(title=table.title, xlabel=across, ylabel=along)
    for label, colour in (("measured", "tab:blue"), ("paper", "tab:grey")):
        points = []
        for row in table.rows:
            found = measured.get(row.name, {}) if label == "measured" else row.paper
            values = dict(zip(columns, found.get(measure, ()), strict=False))
            x, y = values.get(across, row.x), values.get(along)
            if x is not None and y is not None:
                points.append((x, y))
                if row.x is None:
                    axes.annotate(row.name, (x, y), fontsize="x-small", color=colour)
        style = "o" if table.rows[0].x is None else "o-"
        axes.plot([x for x, _ in points], [y for _, y in points], style, color=colour, label=label)
    if across == SPEED:
        axes.set_xscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)


def _measured(name: str, measured: Rows) -> dict[str, Any]:
    found = measured.get(name)
    return {} if found is None else {"measured": {m: list(v) for m, v in found.items()}}


def _padded(values: Figures) -> Iterator[float | None]:
    return chain(values, repeat(None))


def _cell(column: str, ours: float | None, paper: float | None) -> str:
    digits = 2 if column == SPEED else 1
    words = ["" if ours is None else f"{ours:.{digits}f}"]
    words += [] if paper is None else [f"({paper:.{digits}f})"]
    return " ".join(words)
