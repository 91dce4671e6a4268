"""Plots of a suite: convergence over steps and over time, and accuracy against cost."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from innerloop.compare.results import RowResult, SuiteResult
from innerloop.files import atomic_path

_MARKERS = {"solver": "o", "adjoint": "s", "batching": "^", "peer": "D"}
_FLOOR = 1e-16


def plot(suite: SuiteResult, path: Path) -> None:
    """Draw a suite into a PNG file.

    Rows that report their loss at every step are drawn over steps and over time; all rows by the
    error of the meta-gradient and the time it takes.
    """
    rows = [row for row in suite.rows if row.figures is not None]
    curves = [row for row in rows if row.kind == "solver" and len(_excess(row, suite)) > 1]
    panels = 3 if curves else 1
    figure = Figure(figsize=(5.5 * panels, 4.5), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    if curves:
        _convergence(axes[0], axes[1], curves, suite)
    _front(axes[-1], rows)
    figure.suptitle(f"{suite.name}: {suite.description}", fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=90)


def _excess(row: RowResult, suite: SuiteResult) -> list[float]:
    """Losses above the exact solution's, relative to it."""
    assert row.figures is not None
    scale = abs(suite.exact_loss) or 1.0
    return [max((loss - suite.exact_loss) / scale, _FLOOR) for loss in row.figures.losses]


def _convergence(
    over_steps: Any, over_time: Any, rows: list[RowResult], suite: SuiteResult
) -> None:
    for row in rows:
        assert row.figures is not None
        excess = _excess(row, suite)
        taken = len(excess) - 1
        times = [row.figures.forward_ms * step / taken for step in range(taken + 1)]
        over_steps.semilogy(excess, marker=".", label=row.name)
        over_time.semilogy(times, excess, marker=".", label=row.name)
    over_steps.set(xlabel="steps", ylabel="loss above the exact solution's, relative")
    over_time.set(xlabel="ms, forward")
    over_steps.legend(fontsize=8)


def _front(axes: Any, rows: list[RowResult]) -> None:
    points = []
    for row in rows:
        assert row.figures is not None
        cost = row.figures.forward_ms + row.figures.backward_ms
        points.append((cost, max(row.figures.gradient_error, _FLOOR), row))
    for cost, error, row in points:
        colour = "tab:red" if row.verdict == "wrong" else "tab:blue"
        axes.loglog(cost, error, _MARKERS.get(row.kind, "o"), color=colour)
        axes.annotate(row.name, (cost, error), (4, 3), textcoords="offset points", fontsize=7)
    front, best = [], float("inf")
    for cost, error, _ in sorted(points, key=lambda point: point[:2]):
        if error < best:
            best = error
            front.append((cost, error))
    axes.plot(
        *zip(*front, strict=True), color="grey", linewidth=0.8, zorder=0, drawstyle="steps-post"
    )
    axes.set(xlabel="ms, forward and backward", ylabel="error of the meta-gradient, relative")
    axes.margins(x=0.25)
