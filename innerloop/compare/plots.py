"""Plots of a suite: convergence over steps and over time, and accuracy against cost."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from innerloop._files import atomic_path
from innerloop.compare.results import RowResult, SuiteResult

_MARKERS = {"solver": "o", "adjoint": "s", "batching": "^", "peer": "D"}
_FLOOR = 1e-16


def plot(suite: SuiteResult, path: Path) -> None:
    """Draw a suite into a PNG file.

    Rows that report their loss at every step are drawn over steps and over time; all rows by the
    error of the meta-gradient and the time it takes.
    """
    rows = [row for row in suite.rows if row.figures is not None]
    curves = [row for row in rows if row.kind == "solver" and row.figures and row.figures.losses]
    panels = 3 if curves else 1
    figure = Figure(figsize=(4.5 * panels + 3, 4.5), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    colours = {row.name: f"C{index}" for index, row in enumerate(rows)}
    if curves:
        _convergence(axes[0], axes[1], curves, colours, suite)
    _front(axes[-1], rows, colours)
    axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.suptitle(f"{suite.name}\n{suite.description}", fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=80)


def _excess(row: RowResult, suite: SuiteResult) -> list[float]:
    """Losses above the exact solution's, relative to it."""
    assert row.figures is not None
    scale = abs(suite.exact_loss) or 1.0
    return [max((loss - suite.exact_loss) / scale, _FLOOR) for loss in row.figures.losses]


def _convergence(
    over_steps: Any,
    over_time: Any,
    rows: list[RowResult],
    colours: dict[str, str],
    suite: SuiteResult,
) -> None:
    for row in rows:
        assert row.figures is not None
        excess = _excess(row, suite)
        taken = len(excess) - 1
        times = [row.figures.forward_ms * step / max(taken, 1) for step in range(taken + 1)]
        over_steps.semilogy(excess, marker=".", color=colours[row.name])
        over_time.semilogy(times, excess, marker=".", color=colours[row.name])
    over_steps.set(xlabel="steps", ylabel="loss above the exact solution's, relative")
    over_time.set(xlabel="ms, forward")


def _front(axes: Any, rows: list[RowResult], colours: dict[str, str]) -> None:
    points = []
    for row in rows:
        assert row.figures is not None
        cost = row.figures.forward_ms + row.figures.backward_ms
        error = max(row.figures.gradient_error, _FLOOR)
        label = f"{row.name} (wrong)" if row.verdict == "wrong" else row.name
        ring = "red" if row.verdict == "wrong" else "none"
        marker = _MARKERS[row.kind]
        axes.loglog(
            *(cost, error, marker),
            color=colours[row.name],
            markersize=9,
            markeredgecolor=ring,
            markeredgewidth=2,
            label=label,
        )
        points.append((cost, error))
    front, best = [], float("inf")
    for cost, error in sorted(points):
        if error < best:
            best = error
            front.append((cost, error))
    axes.plot(*zip(*front, strict=True), color="grey", linewidth=0.8, drawstyle="steps-post")
    axes.set(xlabel="ms, forward and backward", ylabel="error of the meta-gradient, relative")
