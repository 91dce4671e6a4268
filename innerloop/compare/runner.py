"""Running a suite: every row's accuracy, then all rows' times in turns."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from innerloop.compare.measure import (
    interleaved,
    median_ratio,
    peak_memory,
    relative_error,
    seconds,
    spread,
)
from innerloop.compare.registry import installed
from innerloop.compare.results import Figures, RowResult, SuiteResult, Verdict
from innerloop.compare.suite import Clock, Outcome, Row, Run, Suite

EXACT = 1e-6
"""Max relative error, in double precision, of a meta-gradient that counts as exact."""


class _Measured:
    """A row that ran: its outcomes in double and single precision, memory and times."""

    def __init__(self, row: Row, reference: Outcome) -> None:
        double = row.prepare(torch.float64)(Clock())
        self.run: Run = row.prepare(torch.float32)
        single = self.run(Clock())
        self.loss = single.loss.item()
        self.distance = (
            None
            if single.solution is None or reference.solution is None
            else relative_error(single.solution, reference.solution)
        )
        self.gradient_error = relative_error(single.gradient, reference.gradient)
        self.gradient_error_float64 = relative_error(double.gradient, reference.gradient)
        self.losses = [] if double.losses is None else double.losses.tolist()
        self.memory = peak_memory(partial(self.run, Clock()))
        self.forward: list[float] = []
        self.backward: list[float] = []

    def time(self) -> None:
        clock = Clock()
        total = seconds(partial(self.run, clock))
        self.forward.append(1e3 * clock.seconds)
        self.backward.append(1e3 * (total - clock.seconds))

    def figures(self, baseline: "_Measured | None") -> Figures:
        def ratio(name: str) -> float | None:
            own, other = getattr(self, name), baseline and getattr(baseline, name)
            return own / other if own is not None and other and own / other >= 0 else None

        def time_ratio(name: str) -> float | None:
            if baseline is None:
                return None
            return median_ratio(getattr(self, name), getattr(baseline, name))

        forward, backward = spread(self.forward), spread(self.backward)
        return Figures(
            loss=self.loss,
            loss_ratio=ratio("loss"),
            distance=self.distance,
            distance_ratio=ratio("distance"),
            gradient_error=self.gradient_error,
            gradient_error_ratio=ratio("gradient_error"),
            gradient_error_float64=self.gradient_error_float64,
            forward_ms=forward.median,
            forward_spread_ms=forward.spread,
            forward_ratio=time_ratio("forward"),
            backward_ms=backward.median,
            backward_spread_ms=backward.spread,
            backward_ratio=time_ratio("backward"),
            memory_mb=self.memory / 1e6,
            memory_ratio=ratio("memory"),
            losses=self.losses,
        )


def run_suite(
    name: str,
    suite: Suite,
    rows: Sequence[Row],
    rounds: int,
    advance: Callable[[str], None] = lambda name: None,
) -> SuiteResult:
    """Measure rows of a suite.

    Args:
        name: name of the suite.
        suite: the suite to run.
        rows: names of the rows to run.
        rounds: number of timings of each row.
        advance: called with the name of a row at every measurement, `rounds + 1` times per row.

    Returns:
        The results, in the order of the rows. A row that raises, or whose package is missing, has
        no figures but a note.
    """
    reference = suite.reference()
    measured: dict[str, _Measured] = {}
    notes: dict[str, tuple[Verdict, str]] = {}
    for row in rows:
        if not installed(row.needs):
            notes[row.name] = "not installed", f"needs {row.needs}"
        else:
            try:
                measured[row.name] = _Measured(row, reference)
            except Exception as error:  # an exception is the row's result
                notes[row.name] = "failed", f"{type(error).__name__}: {error}"
        advance(row.name)
    interleaved({name: row.time for name, row in measured.items()}, rounds, advance)

    baseline = measured.get(suite.baseline)
    results = []
    for row in rows:
        if row.name in measured:
            figures = measured[row.name].figures(baseline)
            results.append(RowResult(row.name, row.kind, *_judge(row, figures), figures))
        else:
            results.append(RowResult(row.name, row.kind, *notes[row.name]))
    return SuiteResult(
        name,
        suite.description,
        suite.meaning,
        suite.baseline,
        suite.steps,
        rounds,
        reference.loss.item(),
        results,
    )


def _judge(row: Row, figures: Figures) -> tuple[Verdict, str]:
    if not row.exact:
        return "approximate", ""
    if figures.gradient_error_float64 <= EXACT:
        return "exact", ""
    error = figures.gradient_error_float64
    return "wrong", f"the meta-gradient is {error:.1e} off in double precision too"
