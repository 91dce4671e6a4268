"""Measuring rows: accuracy and memory once, times in turns, so that noise affects all alike."""

import gc
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from torch import Tensor
from torch.profiler import ProfilerActivity, profile

_Result = TypeVar("_Result")


class Spread(NamedTuple):
    """The median of repeated measurements, and half their interquartile range."""

    median: float
    spread: float


def spread(values: Sequence[float]) -> Spread:
    """Median and half the interquartile range of at least one value."""
    if len(values) == 1:
        return Spread(values[0], 0.0)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, (high - low) / 2)


def median_ratio(values: Sequence[float], baseline: Sequence[float]) -> float:
    """The median over rounds of the ratio of a value to the baseline's in the same round.

    Within a round a busy machine slows both, so this varies less than the ratio of medians.
    """
    return statistics.median(
        a / b if b else math.nan for a, b in zip(values, baseline, strict=True)
    )


def interleaved(
    functions: Mapping[str, Callable[[], _Result]],
    rounds: int,
    advance: Callable[[str], None] = lambda name: None,
) -> dict[str, list[_Result]]:
    """Call every function once per round, in turns.

    Args:
        functions: functions by name; their results are kept, such as the seconds they took.
        rounds: number of calls of each.
        advance: called with the name of every function that was called. Default: nothing.

    Returns:
        The results of every function, one per round.
    """
    found: dict[str, list[_Result]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            found[name].append(function())
            advance(name)
    return found


def seconds(function: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def peak_memory(function: Callable[[], object]) -> int:
    """The max bytes of live tensors during a call, above those alive before it.

    Counted at torch's CPU allocator, so it is the same at every call and on a busy machine; it
    excludes what kernels allocate by other means.
    """
    # The profiler's log of starts and stops would go to the terminal.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    # A garbage collection during the call would free objects of others.
    collecting = gc.isenabled()
    gc.disable()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            function()
    finally:
        if collecting:
            gc.enable()
    assert profiler.profiler is not None
    results = profiler.profiler.kineto_results
    assert results is not None
    events = [event for event in results.events() if event.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


def relative_error(found: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """Norm of the difference of two lists of tensors, all entries together, to that of `exact`."""
    error = math.sqrt(
        sum(
            float((a.double() - b.double()).square().sum())
            for a, b in zip(found, exact, strict=True)
        )
    )
    size = math.sqrt(sum(float(b.double().square().sum()) for b in exact))
    if error == 0:
        return 0.0
    return error / size if size else math.inf
