"""Results as a table for the terminal and as Markdown."""

from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from innerloop.compare.results import Figures, RowResult, SuiteResult, machine, versions

_COLUMNS = (
    "loss",
    "distance",
    "gradient error",
    "in float64",
    "forward ms",
    "backward ms",
    "peak MB",
    "verdict",
)
_STYLES = {"wrong": "bold red", "failed": "red", "not installed": "dim", "exact": "green"}


def table(suite: SuiteResult) -> Table:
    """Lay out a suite for the terminal: figures, each with its ratio to the baseline's."""
    result = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1),
        title=escape(f"{suite.name}: {suite.description}"),
        caption=escape(_caption(suite)),
        title_justify="left",
        caption_justify="left",
    )
    result.add_column("row", overflow="fold")
    for column in _COLUMNS:
        result.add_column(column.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in suite.rows:
        style = _STYLES.get(row.verdict, "")
        cells = [Text(cell) for cell in _cells(row, "\n")]
        cells[-1].stylize(style)
        name = Text(row.name, style=style if row.verdict == "wrong" else "")
        result.add_row(name, *cells)
    return result


def markdown(suites: Sequence[SuiteResult]) -> str:
    """All suites as Markdown tables, with machine and versions."""
    facts = {**machine(), **versions()}
    lines = ["# innerloop compare", "", ", ".join(f"{k} {v}" for k, v in facts.items()) + "."]
    for suite in suites:
        lines += ["", f"## {suite.name}", "", f"{suite.description}. {_caption(suite)}", ""]
        lines.append(f"| row | {' | '.join(_COLUMNS)} |")
        lines.append("|---|" + "---:|" * len(_COLUMNS))
        for row in suite.rows:
            cells = _cells(row, " ")
            if row.verdict == "wrong":
                cells[-1] = f"**{cells[-1]}**"
            lines.append(f"| {row.name} | {' | '.join(cells)} |")
        lines += [f"\n{note}" for note in notes(suite)]
    return "\n".join(lines) + "\n"


def notes(suite: SuiteResult) -> list[str]:
    """A sentence for every row that is wrong or did not run."""
    return [f"{row.verdict}: {row.name}: {row.note}" for row in suite.rows if row.note]


def _caption(suite: SuiteResult) -> str:
    return (
        f"{suite.steps} steps; ratios (x) to {suite.baseline!r}; errors relative to "
        f"{suite.reference} in float64; times: median of {suite.rounds} interleaved rounds "
        "± half the interquartile range."
    )


def _cells(row: RowResult, separator: str) -> list[str]:
    """The cells after the name; figure and ratio are apart by the separator."""
    if row.figures is None:
        return ["-"] * (len(_COLUMNS) - 1) + [row.verdict]
    return [*_numbers(row.figures, separator), row.verdict]


def _numbers(figures: Figures, separator: str) -> list[str]:
    def with_ratio(value: str, ratio: float | None) -> str:
        return value if ratio is None else f"{value}{separator}x{ratio:.3g}"

    return [
        with_ratio(f"{figures.loss:.4g}", figures.loss_ratio),
        "-"
        if figures.distance is None
        else with_ratio(f"{figures.distance:.1e}", figures.distance_ratio),
        with_ratio(f"{figures.gradient_error:.1e}", figures.gradient_error_ratio),
        f"{figures.gradient_error_float64:.1e}",
        with_ratio(_times(figures.forward_ms, figures.forward_spread_ms), figures.forward_ratio),
        with_ratio(
            _times(figures.backward_ms, figures.backward_spread_ms),
            figures.backward_ratio,
        ),
        with_ratio(f"{figures.memory_mb:.3g}", figures.memory_ratio),
    ]


def _times(median: float, spread: float) -> str:
    digits = 0 if median >= 100 else 1 if median >= 10 else 2
    return f"{median:.{digits}f} ±{spread:.{digits}f}"
