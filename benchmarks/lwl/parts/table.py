"""The table of an ablation: kept in a file cell by cell, printed and drawn."""

import json
import statistics
from pathlib import Path
from typing import Any

from innerloop.errors import InputError
from innerloop_vos.io.files import atomic_path

Figures = dict[str, float]


class Table:
    """J and F in percent, by row and by run: a seed, or a file of weights.

    Args:
        path: JSON file with the cells measured so far, if there is one.
        labels: labels of the rows, in order.
        configuration: all that a cell depends on, except its row and its run.

    Raises:
        InputError: the file was written with another configuration.
    """

    def __init__(self, path: Path, labels: list[str], configuration: dict[str, Any]) -> None:
        self.path, self.labels, self.configuration = path, labels, configuration
        self.cells: dict[str, dict[str, Figures]] = {label: {} for label in labels}
        if not path.exists():
            return
        found = json.loads(path.read_text(encoding="utf-8"))
        was = found["configuration"]
        if changed := [name for name in configuration if was.get(name) != configuration[name]]:
            differs = ", ".join(f"{name} {was.get(name)}" for name in changed)
            raise InputError(f"{path} was measured with {differs}; choose another --output")
        self.cells |= found["cells"]

    def add(self, label: str, run: str, figures: Figures) -> None:
        """Add a cell, and write the file."""
        self.cells[label][run] = figures
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {"configuration": self.configuration, "cells": self.cells}
        with atomic_path(self.path) as temporary:
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")

    def show(self) -> None:
        """Print mean and spread over the runs, and those of the difference to the row above."""
        print(f"{'':26}{'J':>14}{'F':>14}{'J - above':>15}   J run by run")
        above: dict[str, Figures] = {}
        for label in self.labels:
            runs = self.cells[label]
            j, f = ([figures[key] for figures in runs.values()] for key in ("J", "F"))
            gains = [runs[run]["J"] - above[run]["J"] for run in runs if run in above]
            gain = _mean_and_spread(gains, "+9.1f") if gains else " " * 15
            each = " ".join(f"{value:.1f}" for value in j)
            both = _mean_and_spread(j, "8.1f") + _mean_and_spread(f, "8.1f")
            print(f"{label:26}{both}{gain}   {each}", flush=True)
            above = runs

    def draw(self, path: Path, *, lines: bool) -> None:
        """Draw J with its spread: a line over the rows, or a bar per row with a dot per run."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return
        figure = Figure(figsize=(6, 3), layout="constrained")
        axes = figure.add_subplot(title=path.stem)
        values = [[figures["J"] for figures in self.cells[label].values()] for label in self.labels]
        means = [statistics.fmean(each) for each in values]
        if lines:
            axes.errorbar(self.labels, means, [_spread(v) for v in values], fmt="o-", capsize=3)
            axes.set_ylabel("J on held-out clips, %")
        else:
            axes.barh(self.labels, means, color="tab:blue", alpha=0.6)
            for label, each in zip(self.labels, values, strict=True):
                axes.plot(each, [label] * len(each), "k.")
            axes.invert_yaxis()
            axes.set_xlabel("J on held-out clips, %")
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=120)


def _spread(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _mean_and_spread(values: list[float], form: str) -> str:
    return f"{statistics.fmean(values):{form}} ±{_spread(values):4.1f}"
