"""The table of several methods: in the terminal, as CSV and as JSON."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from innerloop_vos.comparison.rows import QUALITY, Row
from innerloop_vos.io.files import atomic_path

_COSTS = ("FPS", "peak GB", "params M")
_TASKS = {"semi-supervised": "semi-sup.", "unsupervised": "unsup."}
"""How tasks are shortened for the terminal."""

_CSV = {"J": "J-Mean", "F": "F-Mean", "J&F": "J&F-Mean", "J decay": "J-Decay"}
"""The columns of quality as DAVIS names them in its own files."""


def laid_out(rows: Sequence[Row]) -> Table:
    """Lay out the table for the terminal, published systems below what was measured."""
    result = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        caption="J, F and decay in percent; peak of the process's memory; millions of parameters",
    )
    for column in ("method", "task", *QUALITY, *_COSTS, "source"):
        if column == "source" and not any(row.source for row in rows):
            continue
        result.add_column(
            column.replace(" ", "\n"),
            justify="left" if column in ("method", "task", "source") else "right",
            no_wrap=column != "method",
            overflow="fold",
        )
    for index, row in enumerate(rows):
        if row.source and index and not rows[index - 1].source:
            result.add_section()
        quality = [_number(row.quality.get(name), 1) for name in QUALITY]
        costs = [
            _number(row.speed, 2),
            _number(None if row.memory is None else row.memory / 1e9, 2),
            _number(None if row.parameters is None else row.parameters / 1e6, 2),
        ]
        cells = (
            escape(row.name),
            _TASKS.get(row.task, row.task),
            *quality,
            *costs,
            row.source.split(" ")[0],
        )
        result.add_row(*cells[: len(result.columns)])
    return result


def write_csv(path: str | Path, rows: Sequence[Row]) -> None:
    """Write one line a row; J, F and decay as fractions of 1, in the columns of DAVIS's files.

    Args:
        path: the file to write, whole or not at all.
        rows: the rows.

    Raises:
        InputError: the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["Method", "Task", *_CSV.values(), "FPS", "Memory", "Parameters", "Source"])
        for row in rows:
            quality = [row.quality.get(name) for name in _CSV]
            cells = ["" if value is None else round(value / 100, 6) for value in quality]
            speed = None if row.speed is None else round(row.speed, 6)
            costs = (speed, row.memory, row.parameters)
            writer.writerow([row.name, row.task, *cells, *costs, row.source])


def write_json(path: str | Path, rows: Sequence[Row], about: Mapping[str, Any]) -> None:
    """Write all rows.

    Args:
        path: the file to write, whole or not at all.
        rows: the rows; J, F and decay are written in percent, memory in bytes.
        about: what was compared on what.

    Raises:
        InputError: the file cannot be written.
    """
    document = {"about": dict(about), "rows": [asdict(row) for row in rows]}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
