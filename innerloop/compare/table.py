"""Results as a table for the terminal and as Markdown."""

from collections.abc import Iterator, Sequence

from rich.text import Text

from innerloop.compare.results import Figures, SuiteResult, machine, versions

_COLUMNS = (
    "loss",
    "distance",
    "gradient error",
    "in float64",
    "forward ms",
    "backward ms",
    "peak MB",
)
_STYLES = {"wrong": "bold red", "failed": "red", "not installed": "dim", "exact": "green"}


def table(suite: SuiteResult) -> Iterator[Text]:
    """Lay out a suite for the terminal, line by line; 80 columns hold the figures.

    Every row has its name and verdict on a line, its figures on the next, and the ratios to the
    baseline's below them.
    """
    cells = [_numbers(row.figures, "\n") if row.figures else [] for row in suite.rows]
    blocks = [_lines(block) for block in ([c.replace(" ", "\n") for c in _COLUMNS], *cells)]
    lines = [line for block in blocks for line in block]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def laid_out(block: list[list[str]]) -> Iterator[Text]:
        for line in block:
            yield Text("  ".join(f"{cell:>{w}}" for cell, w in zip(line, widths, strict=True)))

    yield Text(f"\n{suite.name}: {suite.description}", style="italic")
    header, *figures = blocks
    yield from laid_out(header)
    yield Text("─" * (sum(widths) + 2 * len(widths) - 2))
    for row, block in zip(suite.rows, figures, strict=True):
        yield Text(f"{row.name}: {row.verdict}", style=_STYLES.get(row.verdict, "bold"))
        yield from laid_out(block)
    yield Text(_caption(suite), style="dim italic")


def _lines(cells: Sequence[str]) -> list[list[str]]:
    """Cells of up to two lines side by side."""
    if not cells:
        return []
    parts = [cell.partition("\n") for cell in cells]
    return [[first for first, _, _ in parts], [second for _, _, second in parts]]


def markdown(suites: Sequence[SuiteResult]) -> str:
    """All suites as Markdown tables, with machine and versions."""
    facts = {**machine(), **versions()}
    lines = ["# innerloop compare", "", ", ".join(f"{k} {v}" for k, v in facts.items()) + "."]
    for suite in suites:
        lines += ["", f"## {suite.name}", "", f"{suite.description}. {_caption(suite)}", ""]
        lines.append(f"| row | {' | '.join(_COLUMNS)} | verdict |")
        lines.append("|---|" + "---:|" * (len(_COLUMNS) + 1))
        for row in suite.rows:
            cells = _numbers(row.figures, " ") if row.figures else ["-"] * len(_COLUMNS)
            verdict = f"**{row.verdict}**" if row.verdict == "wrong" else row.verdict
            lines.append(f"| {row.name} | {' | '.join(cells)} | {verdict} |")
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


def _numbers(figures: Figures, separator: str) -> list[str]:
    """The cells of a row; the separator is between figure and ratio."""

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
