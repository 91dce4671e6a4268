"""Quality against speed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop_vos.comparison.rows import Row
from innerloop_vos.io.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLES = {False: ("o", "tab:blue", "measured"), True: ("x", "tab:grey", "published")}


def draw(path: Path, rows: Sequence[Row], title: str) -> None:
    """Draw J&F over frames per second, each row that has both as a point with its name.

    Args:
        path: the PNG file to write, whole or not at all.
        rows: the rows.
        title: what was measured.

    Raises:
        InputError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        drawn(rows, title).savefig(temporary, dpi=120)


def drawn(rows: Sequence[Row], title: str) -> "Figure":
    """The picture of `draw`, as a figure of matplotlib."""
    # matplotlib takes a second to import.
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="frames per second", ylabel="J&F, percent")
    for is_published, (marker, colour, label) in _STYLES.items():
        of = [row for row in rows if bool(row.source) == is_published]
        # What several sources say of one system is one point, where they agree.
        points = {
            (row.name, round(row.quality["J&F"])): (row.speed, row.quality["J&F"])
            for row in of
            if row.speed is not None and "J&F" in row.quality
        }
        if points:
            across, along = zip(*points.values(), strict=True)
            axes.scatter(across, along, marker=marker, color=colour, label=label)
        for (name, _), point in points.items():
            axes.annotate(
                name,
                point,
                xytext=(4, 3),
                textcoords="offset points",
                fontsize="x-small",
                color=colour,
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.15)  # room for the names
    axes.grid(alpha=0.3)
    if axes.collections:
        axes.legend(fontsize="small")
    return figure
