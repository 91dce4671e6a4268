"""The reports of the steps of a solve, kept in few tensors."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from innerloop._autodiff import transforming
from innerloop.solvers.base import StepStats

OnStep: TypeAlias = Callable[[int, StepStats], None]
"""Called with the number of a step, counted from 0, and what it reports."""

_ROWS = 256
_TOGETHER = 32


class Reports:
    """The reports of all steps, one row per step.

    Every few steps they are written into tensors that are made once: small tensors that outlive
    steps would lie between the memory blocks that steps free, and keep the allocator from returning
    these.

    Args:
        before: reports of earlier steps of the same solve, to which `settled` compares. Default:
            none.
        on_step: is told of every step, but for those under torch.compile and torch.func transforms.
            Default: nobody is.
    """

    def __init__(self, before: "Reports | None" = None, on_step: OnStep | None = None) -> None:
        self._on_step = on_step
        self._told = 0 if before is None else len(before)
        self._first: StepStats | None = None if before is None else before._first
        self._last: StepStats | None = None
        self._count = 0
        self._table: StepStats | None = None
        self._latest: list[StepStats] = []
        """Not in the table yet."""

    def __len__(self) -> int:
        return self._count

    def add(self, report: StepStats, *, tell: bool = True) -> None:
        """Record what a step reports, and tell `on_step` of it."""
        # Without a graph: checkpoints, which are part of graphs, refer to the reports.
        if any(v is not None and v.requires_grad for v in report):
            report = StepStats._make(None if v is None else v.detach() for v in report)
        self._last = report
        if self._first is None:
            self._first = report
        self._latest.append(report)
        self._count += 1
        if tell and self._on_step is not None and not transforming():
            self._on_step(self._told + self._count - 1, report)
        # Under a transform, batched values cannot be written into a tensor that is not batched.
        if len(self._latest) == _TOGETHER and not transforming():
            self._write()

    def _write(self) -> None:
        stop = self._count
        start = stop - len(self._latest)
        self._table = _with_room(self._table, self._latest[0], start, stop)
        for column, rows in _pairs(self._table, _stack(self._latest)):
            column[start:stop] = rows
        self._latest = []

    def extend(self, reports: StepStats, *, tell: bool = True) -> None:
        """Record the reports of several steps, each entry of shape (steps, *batch); see `add`."""
        for row in range(len(reports.loss)):
            self.add(StepStats._make(None if v is None else v[row] for v in reports), tell=tell)

    def stacked(self) -> StepStats | None:
        """All reports, each entry of shape (steps, *batch); None before the first step."""
        if self._table is None:
            return _stack(self._latest) if self._latest else None
        if self._latest:
            self._write()
        return StepStats._make(None if v is None else v[: self._count] for v in self._table)

    def resemble(self, losses: Tensor, others: Tensor) -> bool:
        """Whether the losses of the same steps are equal up to rounding.

        The scale is that of the first losses of the solve: at a minimum, the loss may be pure
        rounding.
        """
        if losses.shape != others.shape:
            return False
        start = losses[0] if self._first is None else self._first.loss
        scale = start.abs().nan_to_num(0.0, 0.0, 0.0)
        eps = torch.finfo(losses.dtype).eps
        close = (losses - others.detach()).abs() <= eps**0.5 * torch.maximum(
            scale, losses.abs()
        ) + eps
        same = close | (losses == others) | (losses.isnan() & others.isnan())
        return bool(same.all())

    def settled(self, tolerance: float) -> Tensor:
        """Whether each problem's gradient norm fell to `tolerance` times its first one."""
        assert self._first is not None
        assert self._last is not None
        return self._last.gradient_norm <= tolerance * self._first.gradient_norm


def _pairs(table: StepStats, report: StepStats) -> Sequence[tuple[Tensor, Tensor]]:
    return [(a, b) for a, b in zip(table, report, strict=True) if a is not None and b is not None]


def _stack(reports: list[StepStats]) -> StepStats:
    columns = zip(*reports, strict=True)
    return StepStats._make(None if c[0] is None else torch.stack(c) for c in columns)


def _with_room(table: StepStats | None, report: StepStats, count: int, wanted: int) -> StepStats:
    """The table, its first `count` rows kept, with room for `wanted` of them."""
    if table is not None and wanted <= len(table.loss):
        return table
    rows = max(_ROWS, 2 * wanted)
    grown = StepStats._make(None if v is None else v.new_empty(rows, *v.shape) for v in report)
    if table is not None:
        for new, old in _pairs(grown, table):
            new[:count] = old[:count]
    return grown
